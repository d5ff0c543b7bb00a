"""The front as a table on a terminal or in a text file."""

import io
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from arsvd.options.faults import printable
from sweeps.ledger.joined_front import lead, networks
from sweeps.ledger.records import Front
from sweeps.report.rows import OWN_FRONT, TIMED_BATCH, Row, rows, title
from sweeps.report.scale import standard_error

_GAP = 2
_WIDEST_RANKS = 28
_NARROWEST = 60
_TIME, _SPEEDUP = f"us/{TIMED_BATCH}", "speedup"


@dataclass(frozen=True)
class _Column:
    header: str
    cells: list[str]
    # the columns with the largest number are dropped first where the table is too wide
    dispensable: int = 0
    right: bool = True

    @property
    def width(self) -> int:
        return max(len(text) for text in (self.header, *self.cells))


def front_table(front: Front, width: int = 120) -> Table:
    """Build the table of a front.

    Accuracies and F1 are in percent, on validation unless the header says test. Each point is followed by the
    best validation accuracy of each baseline at no more parameters.

    Args:
        front: front to show.
        width: largest number of characters per line. Where it is too small for all columns, the least
            important ones are left out.

    Returns:
        A table that does not wrap, with a caption that explains it.
    """
    columns, left_out = _fitting(_columns(front, rows(front)), width)
    notes = ["accuracies and F1 on validation unless marked test; baselines at no more parameters"]
    error = standard_error(front)
    if error is not None:
        notes.append(f"standard error of the best dense val %: {100 * error:.2f}")
    if front.best is not None:
        sure = "" if front.confidence is None else f" at {front.confidence:.0%} confidence"
        notes.append(f"* best: the fewest parameters within the allowed drop{sure}")
    notes += _timing_note(front, {column.header for column in columns})
    if left_out:
        notes.append(f"not shown at this width: {', '.join(left_out)}")
    table = _table("; ".join(notes))
    for column in columns:
        table.add_column(plain(column.header), justify="right" if column.right else "left", no_wrap=True)
    for number, entry in enumerate(front.points):
        cells = [plain(column.cells[number]) for column in columns]
        table.add_row(*cells, style="bold" if entry == front.best else None)
    return table


def network_table(front: Front) -> Table:
    """Build the table of the networks that a front is compared with, and the best.

    Args:
        front: front to show.
    """
    table = _table("vs: how many times fewer parameters than the reference or the best dense member has")
    table.add_column("network", no_wrap=True)
    for header in ("params", "vs ref", "vs dense", "val %", "test %"):
        table.add_column(header, justify="right", no_wrap=True)
    for one in networks(front):
        table.add_row(
            one.name,
            f"{one.params:,}",
            f"{one.ratio:.1f}x",
            "-" if one.dense_ratio is None else f"{one.dense_ratio:.1f}x",
            _percent(one.validation),
            _percent(one.test),
            style="bold" if one.name == "best" else None,
        )
    return table


def baseline_table(front: Front) -> Table:
    """Build the comparison of a front with its baselines, by hypervolume.

    Args:
        front: front to show.
    """
    table = _table(
        "hypervolume: mean, over compression ratios of 1 to 100, of the best accuracy there; "
        "others: that of all that the sweep measured but the baseline's own points"
    )
    table.add_column("front", no_wrap=True)
    for header in ("models", "hypervolume", "others", "difference"):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_row(OWN_FRONT, str(len(front.points)), f"{front.hypervolume:.4f}", "", "", style="bold")
    for name, baseline in front.baselines.items():
        others, ahead = baseline.others_hypervolume, lead(front, name)
        table.add_row(
            plain(title(name)),
            str(len(baseline.points)),
            f"{baseline.hypervolume:.4f}",
            "-" if others is None else f"{others:.4f}",
            "-" if ahead is None else f"{ahead:+.4f}",
        )
    return table


def front_text(front: Front, width: int = 100) -> str:
    """Render a front as plain ASCII text, for a file or a pipe.

    Args:
        front: front to show.
        width: largest number of characters per line, at least 60.

    Raises:
        ValueError: the width is below 60, where not even the main columns fit.
    """
    if width < _NARROWEST:
        raise ValueError(f"a front needs lines of at least {_NARROWEST} characters, got {width}")
    console = Console(file=io.StringIO(), width=width, color_system=None, force_terminal=False)
    with console.capture() as capture:
        console.print(front_table(front, width))
        console.print()
        console.print(baseline_table(front))
        console.print()
        console.print(network_table(front))
    return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"


def plain(text: str) -> Text:
    """Take a text literally: brackets are not markup, and control characters are escaped."""
    return Text(printable(text))


def _columns(front: Front, listed: list[Row]) -> list[_Column]:
    points = [row.entry.point for row in listed]
    tests = [row.entry.test for row in listed]
    columns = [
        _Column("", ["*" if row.best else "" for row in listed]),
        _Column("params", [f"{point.cost.numbers:,}" for point in points]),
        _Column("ratio", [f"{row.ratio:.1f}x" for row in listed]),
        _Column("MACs", [f"{point.cost.macs:,}" for point in points], 5),
        _Column("val %", [_percent(point.accuracy) for point in points]),
        _Column("test %", [_percent(None if test is None else test.accuracy) for test in tests]),
        _Column("F1 %", [_percent(point.macro_f1) for point in points], 6),
        _Column("ranks", [_short(row.ranks) for row in listed], 1, right=False),
        _Column("tau", ["" if p.threshold is None else f"{p.threshold:.4f}" for p in points], 4),
        _Column("rule", [point.family for point in points], 7, right=False),
        _Column("basis", [point.basis or "" for point in points], 8, right=False),
    ]
    columns += [
        _Column(f"{title(name)} %", [_percent(row.rivals[name]) for row in listed], 2 + place)
        for place, name in enumerate(front.baselines)
    ]
    return columns + _latency_columns(front)


def _latency_columns(front: Front) -> list[_Column]:
    found = [entry.latency_at(TIMED_BATCH) for entry in front.points]
    if not any(found):
        return []
    return [
        _Column(_TIME, ["-" if one is None else f"{one.median_us:,.0f}" for one in found], 10),
        _Column(_SPEEDUP, ["-" if one is None else f"{one.speedup:.1f}x" for one in found], 9),
    ]


def _timing_note(front: Front, shown: set[str]) -> list[str]:
    timed = [latency for entry in front.points if (latency := entry.latency_at(TIMED_BATCH)) is not None]
    meanings = {
        _TIME: f"median microseconds for {TIMED_BATCH} images",
        _SPEEDUP: f"over the best dense model, {TIMED_BATCH} images",
    }
    told = [f"{header}: {meaning}" for header, meaning in meanings.items() if header in shown]
    if not told or not timed:
        return []
    return [f"{', '.join(told)} ({timed[0].place})"]


def _fitting(columns: list[_Column], width: int) -> tuple[list[_Column], list[str]]:
    left_out: list[str] = []
    while sum(column.width + _GAP for column in columns) - _GAP > width:
        worst = max(columns, key=lambda column: column.dispensable)
        if worst.dispensable == 0:
            break
        columns = [column for column in columns if column is not worst]
        left_out.append(worst.header)
    return columns, left_out


def _table(caption: str) -> Table:
    text = Text(printable(caption), style="table.caption")
    return Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, caption=text, caption_justify="left")


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f}"


def _short(ranks: str) -> str:
    return ranks if len(ranks) <= _WIDEST_RANKS else ranks[: _WIDEST_RANKS - 3] + "..."
