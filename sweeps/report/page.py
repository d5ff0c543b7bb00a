"""The report as one interactive page that needs no network, as in MLflow's artifact viewer."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path

import plotly.graph_objects as go
import plotly.io
from jinja2 import StrictUndefined, Template

from sweeps.ledger.joined_front import lead, networks
from sweeps.ledger.records import Front, FrontPoint
from sweeps.report.rows import OWN_FRONT, TIMED_BATCH, rows, title
from sweeps.report.scale import BASELINE_COLOURS, OWN_COLOUR, standard_error, window
from sweeps.tracking.descriptions import load_lines
from sweeps.tracking.versions import ranks_text


def write_page(
    front: Front, path: Path, *, dataset: str, heading: str, configuration: Mapping[str, object]
) -> None:
    """Write the report page: chart, tables, how to load the model, configuration.

    Args:
        front: front to show.
        path: HTML file to write, about 5 MB; an existing one is replaced.
        dataset: name of the data set.
        heading: title of the page.
        configuration: values of the sweep file by their dotted keys.
    """
    chart = plotly.io.to_html(
        _chart(front),
        full_html=False,
        include_plotlyjs=True,
        include_mathjax=False,
        div_id="front",
        # plotly 7 adds a button that uploads the chart's data to its makers
        config={"displaylogo": False, "responsive": True, "showSendToCloud": False},
    )
    template = Template(
        files("sweeps.report").joinpath("page.html").read_text(encoding="utf-8"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    page = template.render(
        heading=heading,
        front=front,
        chart=chart,
        error=standard_error(front),
        hidden=window(front).hidden,
        networks=networks(front),
        load=load_lines(dataset),
        rows=rows(front),
        configuration=configuration,
        lead=lead,
        origin=_origin,
        own_front=OWN_FRONT,
        timed_batch=TIMED_BATCH,
        title=title,
    )
    path.write_text(page, encoding="utf-8")


def _chart(front: Front) -> go.Figure:
    drawn = window(front)
    figure = go.Figure()
    for colour, (name, baseline) in zip(BASELINE_COLOURS, front.baselines.items(), strict=False):
        label = f"{title(name)}, validation"
        figure.add_trace(_steps(front, baseline.points, label, colour, size=6, width=1.5, rank=3))
    own = f"{OWN_FRONT}, validation"
    figure.add_trace(_steps(front, front.points, own, OWN_COLOUR, size=9, width=2.5, rank=1))
    tested = [entry for entry in front.points if entry.test is not None]
    if tested:
        figure.add_trace(
            go.Scatter(
                x=[entry.point.cost.numbers for entry in tested],
                y=[100 * entry.test.accuracy for entry in tested if entry.test is not None],
                name=f"{OWN_FRONT}, test",
                mode="markers",
                legendrank=2,
                marker={"symbol": "circle-open", "size": 10, "color": OWN_COLOUR, "line": {"width": 2}},
                text=[_hover(front, entry) for entry in tested],
                hovertemplate="%{text}<extra></extra>",
            )
        )
    figure.add_hline(
        100 * front.dense_accuracy,
        line={"dash": "dash", "width": 1, "color": "black"},
        annotation={"text": f"best dense network, {front.dense_accuracy:.2%}", "xanchor": "left", "x": 0.01},
    )
    if front.best is not None:
        _mark_best(figure, front.best)
    figure.update_layout(
        template="plotly_white",
        height=560,
        margin={"l": 70, "r": 20, "t": 20, "b": 60},
        legend={"x": 0.99, "y": 0.02, "xanchor": "right", "yanchor": "bottom"},
        hovermode="closest",
        xaxis={
            "type": "log",
            "title": "parameters stored (log scale)",
            "range": [math.log10(drawn.left), math.log10(drawn.right)],
            "dtick": "D2",
            "tickformat": "~s",
        },
        yaxis={"title": "accuracy, %", "range": [100 * drawn.low, 100 * drawn.high]},
    )
    return figure


def _steps(
    front: Front,
    points: Sequence[FrontPoint],
    label: str,
    colour: str,
    *,
    size: int,
    width: float,
    rank: int,
) -> go.Scatter:
    return go.Scatter(
        x=[entry.point.cost.numbers for entry in points],
        y=[100 * entry.point.accuracy for entry in points],
        name=label,
        mode="lines+markers",
        legendrank=rank,
        # horizontal first: a front's value at a size is that of the largest model that fits
        line={"shape": "hv", "color": colour, "width": width},
        marker={"size": size},
        text=[_hover(front, entry) for entry in points],
        hovertemplate="%{text}<extra></extra>",
    )


def _mark_best(figure: go.Figure, best: FrontPoint) -> None:
    figure.add_annotation(
        # on a log axis, annotations are placed by the exponent
        x=math.log10(best.point.cost.numbers),
        y=100 * best.point.accuracy,
        text=f"<b>best</b>: {best.point.cost.numbers:,} parameters",
        ax=70,
        ay=60,
        arrowcolor=OWN_COLOUR,
        bgcolor="white",
        bordercolor=OWN_COLOUR,
        borderpad=4,
    )


def _hover(front: Front, entry: FrontPoint) -> str:
    point = entry.point
    lines = [
        f"<b>{point.cost.numbers:,} parameters</b>, {front.ratio(point.cost.numbers):.1f}x smaller",
        f"{point.cost.macs:,} MACs",
        f"validation {point.accuracy:.2%}, macro-F1 {point.macro_f1:.2%}",
    ]
    if entry.test is not None:
        lines.append(f"test {entry.test.accuracy:.2%}, macro-F1 {entry.test.macro_f1:.2%}")
    if entry.assured is not None:
        lines.append(f"validation accuracy assured {entry.assured:.2%}")
    lines += [
        f"{latency.median_us:,.0f} us at batch {latency.batch} (95 % within {latency.p95_us:,.0f}), "
        f"speedup {latency.speedup:.1f}x over dense"
        for latency in entry.latency
    ]
    lines.append(f"ranks {ranks_text(point.choices)}")
    lines.append(escape(_origin(entry)))
    return "<br>".join(lines)


def _origin(entry: FrontPoint) -> str:
    point = entry.point
    threshold = "" if point.threshold is None else f" {point.threshold:.4f}"
    basis = "" if point.basis is None else f", {point.basis} basis"
    return f"member {entry.number}, {point.family}{threshold}{basis}"
