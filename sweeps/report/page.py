"""The report as one interactive page that needs no network, such as MLflow's artifact viewer shows it."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import plotly.graph_objects as go
import plotly.io

from sweeps.ledger.fronts import lead, networks
from sweeps.ledger.records import Front, FrontPoint
from sweeps.report.rows import OWN_FRONT, TIMED_BATCH, Row, rows, title
from sweeps.report.scale import BASELINE_COLOURS, OWN_COLOUR, standard_error, window
from sweeps.tracking.descriptions import load_lines
from sweeps.tracking.versions import ranks_text

_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1d2733; background: #fff; max-width: 1180px;
  margin: 1.5rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0 0 .3rem; }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
.facts { display: flex; flex-wrap: wrap; gap: .4rem 2rem; margin: 1rem 0; padding: 0; list-style: none; }
.facts li { color: #5b6774; font-size: .9rem; }
.facts b { display: block; color: #1d2733; font-size: 1.1rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; white-space: nowrap; }
th, td { padding: .2rem .7rem; text-align: right; border-bottom: 1px solid #e3e7ec; }
th { background: #f3f5f8; position: sticky; top: 0; }
td.text, th.text { text-align: left; }
tr.best td { background: #e8f1fb; font-weight: 600; }
pre { background: #f3f5f8; padding: .8rem 1rem; overflow-x: auto; border-radius: 4px; }
.note { color: #5b6774; font-size: .9rem; }
"""
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{heading}</title>
<style>{style}</style>
</head>
<body>
<h1>{heading}</h1>
<ul class="facts">{facts}</ul>
{chart}
<p class="note">{note}</p>
<h2>Networks</h2>
<div class="wide">{networks}</div>
<h2>Load the best model</h2>
<pre>{load}</pre>
<h2>Models on the front</h2>
<div class="wide">{table}</div>
<h2>Fronts compared</h2>
<div class="wide">{baselines}</div>
<p class="note">Hypervolume: the mean, over compression ratios of 1 to 100, of the best validation accuracy
there. All fronts come from the same trained members. Others: everything that the sweep measured but
the baseline's own points.</p>
<h2>Configuration</h2>
<div class="wide">{configuration}</div>
</body>
</html>
"""


def write_page(
    front: Front, path: Path, *, dataset: str, heading: str, configuration: Mapping[str, object]
) -> None:
    """Write the report page: chart, tables, how to load the model, configuration.

    Args:
        front: the front.
        path: the HTML file, about 5 MB; replaced where it exists.
        dataset: the data set's name.
        heading: what the sweep is.
        configuration: the sweep file, flat.
    """
    listed = rows(front)
    chart = plotly.io.to_html(
        _chart(front),
        full_html=False,
        include_plotlyjs=True,
        include_mathjax=False,
        div_id="front",
        # plotly 7 puts a button there that uploads the chart's data to its makers
        config={"displaylogo": False, "responsive": True, "showSendToCloud": False},
    )
    page = _PAGE.format(
        heading=escape(heading),
        style=_STYLE,
        facts="".join(f"<li>{escape(k)}<b>{escape(v)}</b></li>" for k, v in _facts(front).items()),
        chart=chart,
        note=escape(_note(front)),
        load=escape(load_lines(dataset)),
        networks=_network_table(front),
        table=_front_table(front, listed),
        baselines=_baseline_table(front),
        configuration=_configuration_table(configuration),
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
                x=[entry.point.params for entry in tested],
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
        x=[entry.point.params for entry in points],
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
        # on a log axis annotations are placed by the exponent
        x=math.log10(best.point.params),
        y=100 * best.point.accuracy,
        text=f"<b>best</b>: {best.point.params:,} parameters",
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
        f"<b>{point.params:,} parameters</b>, {front.ratio(point.params):.1f}x smaller",
        f"{point.macs:,} MACs",
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
    lines.append(f"ranks {ranks_text(point.ranks)}")
    lines.append(escape(_origin(entry)))
    return "<br>".join(lines)


def _origin(entry: FrontPoint) -> str:
    point = entry.point
    threshold = "" if point.threshold is None else f" {point.threshold:.4f}"
    basis = "" if point.basis is None else f", {point.basis} basis"
    return f"member {entry.number}, {point.family}{threshold}{basis}"


def _facts(front: Front) -> dict[str, str]:
    facts = {
        "models on the front": f"{len(front.points)}",
        "hypervolume": f"{front.hypervolume:.4f}",
    }
    if front.best is not None:
        facts["best model"] = f"{front.best.point.params:,} parameters"
        facts["its validation accuracy"] = f"{front.best.point.accuracy:.2%}"
        if front.best.test is not None:
            facts["its test accuracy"] = f"{front.best.test.accuracy:.2%}"
    return facts


def _note(front: Front) -> str:
    notes = ["Hover a point for its ranks and its member; drag to zoom, double-click to see everything"]
    error = standard_error(front)
    if error is not None:
        notes.append(
            f"{front.validation_images:,} validation images, so one standard error is about "
            f"{100 * error:.2f} points"
        )
    if front.confidence is not None:
        notes.append(
            f"Assured: the validation accuracy that holds at {front.confidence:.0%} confidence (paired "
            "bootstrap over the images)"
        )
    timed = front.points[0].latency if front.points else ()
    if timed:
        notes.append(
            f"Times are measured beside the best dense network in one process ({timed[0].place}), "
            f"{min(latency.repeats for latency in timed)} calls a model or more"
        )
    hidden = window(front).hidden
    if hidden:
        notes.append(f"{hidden} points lie outside the first view")
    return ". ".join(notes) + "."


def _front_table(front: Front, listed: list[Row]) -> str:
    headers = ["parameters", "ratio", "MACs", "validation %", "test %", "macro-F1 %", "test macro-F1 %"]
    headers += [f"{title(name)} %" for name in front.baselines]
    assured = any(row.entry.assured is not None for row in listed)
    timed = any(row.entry.latency for row in listed)
    headers += ["assured %"] * assured + [f"us for {TIMED_BATCH} images", "speedup"] * timed
    texts = ["ranks", "rule", "best"]
    body = []
    for row in listed:
        point, test = row.entry.point, row.entry.test
        numbers = [f"{point.params:,}", f"{row.ratio:.1f}x", f"{point.macs:,}", _percent(point.accuracy)]
        numbers += [
            _percent(None if test is None else test.accuracy),
            _percent(point.macro_f1),
            _percent(None if test is None else test.macro_f1),
        ]
        numbers += [_percent(row.rivals[name]) for name in front.baselines]
        numbers += [_percent(row.entry.assured)] * assured
        latency = row.entry.latency_at(TIMED_BATCH)
        if timed:
            numbers += [f"{latency.median_us:,.0f}", f"{latency.speedup:.1f}x"] if latency else ["–", "–"]
        words = [row.ranks, _origin(row.entry), "best" if row.best else ""]
        body.append(_table_row(numbers, words, "best" if row.best else ""))
    return _table(headers, texts, body)


def _network_table(front: Front) -> str:
    body = []
    for one in networks(front):
        dense = "–" if one.dense_ratio is None else f"{one.dense_ratio:.1f}x"
        numbers = [
            f"{one.params:,}",
            f"{one.ratio:.1f}x",
            dense,
            _percent(one.validation),
            _percent(one.test),
        ]
        body.append(_table_row(numbers, [one.name], "best" if one.name == "best" else ""))
    headers = ["parameters", "times fewer than the reference", "than the best dense member"]
    return _table([*headers, "validation %", "test %"], ["network"], body)


def _baseline_table(front: Front) -> str:
    body = [_table_row([f"{len(front.points)}", f"{front.hypervolume:.4f}", "", ""], [OWN_FRONT], "best")]
    for name, baseline in front.baselines.items():
        others, ahead = baseline.others_hypervolume, lead(front, name)
        numbers = [f"{len(baseline.points)}", f"{baseline.hypervolume:.4f}"]
        numbers += ["–" if others is None else f"{others:.4f}", "–" if ahead is None else f"{ahead:+.4f}"]
        body.append(_table_row(numbers, [title(name)], ""))
    return _table(["models", "hypervolume", "others", "difference"], ["front"], body)


def _configuration_table(configuration: Mapping[str, object]) -> str:
    body = [_table_row([], [key, str(value)], "") for key, value in configuration.items()]
    return _table([], ["key", "value"], body)


def _table(headers: list[str], texts: list[str], body: list[str]) -> str:
    cells = "".join(f"<th>{escape(header)}</th>" for header in headers)
    cells += "".join(f'<th class="text">{escape(header)}</th>' for header in texts)
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _table_row(numbers: list[str], words: list[str], kind: str) -> str:
    cells = "".join(f"<td>{escape(cell)}</td>" for cell in numbers)
    cells += "".join(f'<td class="text">{escape(cell)}</td>' for cell in words)
    return f'<tr class="{kind}">{cells}</tr>'


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.2f}"
