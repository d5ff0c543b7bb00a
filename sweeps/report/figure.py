"""The front as a picture."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import ArrayLike

from sweeps.ledger.records import Front, FrontPoint
from sweeps.report.rows import OWN_FRONT, title
from sweeps.report.scale import BASELINE_COLOURS, OWN_COLOUR, Window, standard_error, window

_INCHES, _DPI = (12.0, 7.0), 100


def write_figure(front: Front, path: Path, heading: str) -> None:
    """Draw a front beside its baselines: parameters (log) against accuracy, 1200 x 700 pixels.

    Args:
        front: front to draw.
        path: path of the PNG file; replaced where it exists.
        heading: title that names the sweep.
    """
    figure = Figure(figsize=_INCHES, dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    drawn = window(front)
    axes.set_xscale("log")
    axes.set_xlim(drawn.left, drawn.right)
    axes.set_ylim(100 * drawn.low, 100 * drawn.high)
    own = f"{OWN_FRONT}, validation (hypervolume {front.hypervolume:.3f})"
    _steps(axes, front.points, drawn.right, OWN_COLOUR, own, marker=7, width=2.2)
    tested = [
        (entry.point.cost.numbers, 100 * entry.test.accuracy)
        for entry in front.points
        if entry.test is not None
    ]
    if tested:
        axes.plot(
            *zip(*tested, strict=True),
            linestyle="none",
            marker="o",
            markersize=8,
            markerfacecolor="white",
            markeredgecolor=OWN_COLOUR,
            label=f"{OWN_FRONT}, test",
            zorder=4,
        )
    for colour, (name, baseline) in zip(BASELINE_COLOURS, front.baselines.items(), strict=False):
        label = f"{title(name)}, validation (hypervolume {baseline.hypervolume:.3f})"
        _steps(axes, baseline.points, drawn.right, colour, label, marker=4, width=1.3)
    _references(axes, front)
    if front.best is not None:
        _mark_best(axes, front, front.best)
    _axes(axes, front, heading)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower right", framealpha=0.95).set_zorder(6)
    figure.supxlabel(_footnote(front, drawn), fontsize=9, color="#555555", x=0.99, ha="right")
    figure.savefig(path, format="png", dpi=_DPI)


def _steps(
    axes: Axes,
    points: Sequence[FrontPoint],
    right: float,
    colour: str,
    label: str,
    marker: float,
    width: float,
) -> None:
    if not points:
        return
    sizes = [float(entry.point.cost.numbers) for entry in points]
    accuracies = [100 * entry.point.accuracy for entry in points]
    axes.plot(
        [*sizes, right],
        [*accuracies, accuracies[-1]],
        # a front's value at a size is that of the largest model that fits; it holds up to the next one
        drawstyle="steps-post",
        color=colour,
        linewidth=width,
        marker="o",
        markersize=marker,
        markevery=range(len(points)),
        label=label,
        zorder=width,
    )


def _references(axes: Axes, front: Front) -> None:
    axes.axhline(100 * front.dense_accuracy, color="black", linestyle="--", linewidth=1)
    axes.annotate(
        f"best dense network, validation {front.dense_accuracy:.2%}",
        xy=(0.012, 100 * front.dense_accuracy),
        xycoords=("axes fraction", "data"),
        xytext=(0, 4),
        textcoords="offset points",
        fontsize=10,
    )
    axes.axvline(front.reference_params, color="black", linestyle=":", linewidth=1)


def _mark_best(axes: Axes, front: Front, best: FrontPoint) -> None:
    point = best.point
    test = "" if best.test is None else f", test {best.test.accuracy:.2%}"
    axes.annotate(
        f"best: {point.cost.numbers:,} parameters, {front.ratio(point.cost.numbers):.1f}x smaller\n"
        f"validation {point.accuracy:.2%}{test}",
        xy=(point.cost.numbers, 100 * point.accuracy),
        xytext=(0.38, 0.42),
        textcoords="axes fraction",
        fontsize=11,
        arrowprops={"arrowstyle": "->", "color": OWN_COLOUR, "shrinkB": 6},
        bbox={"boxstyle": "round", "facecolor": "white", "edgecolor": OWN_COLOUR},
        zorder=5,
    )


def _axes(axes: Axes, front: Front, heading: str) -> None:
    axes.set_title(heading, fontsize=14, loc="left", pad=12, parse_math=False)  # a name may hold a $
    axes.set_xlabel("parameters stored (log scale)", fontsize=12)
    axes.set_ylabel("accuracy, %", fontsize=12)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _count(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(True, which="major", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)

    # seldom read, but it is what the project is about: the same axis as a ratio
    def swap(values: ArrayLike) -> ArrayLike:
        with np.errstate(divide="ignore"):  # matplotlib tries 0 before it knows the limits
            return np.asarray(front.reference_params / np.asarray(values, dtype=np.float64))

    above = axes.secondary_xaxis("top", functions=(swap, swap))
    above.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    above.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
    above.xaxis.set_minor_formatter(NullFormatter())
    above.set_xlabel(f"times smaller than the reference ({front.reference_params:,} parameters)", fontsize=11)


def _footnote(front: Front, drawn: Window) -> str:
    notes = ["accuracy at or below a number of parameters"]
    error = standard_error(front)
    if error is not None:
        notes.append(
            f"{front.validation_images:,} validation images: one standard error is about {100 * error:.2f}"
            " points"
        )
    if drawn.hidden:
        notes.append(f"{drawn.hidden} points below {100 * drawn.low:.0f} % are not shown")
    return "; ".join(notes)


def _count(value: float) -> str:
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:g}{name}"
    return f"{value:g}"
