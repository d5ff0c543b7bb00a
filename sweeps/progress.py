"""What a person sees while a sweep runs."""

import sys
import time
from dataclasses import dataclass
from typing import Protocol, TextIO

from rich.console import Console
from rich.live import Live
from rich.table import Table

from arsvd.data import Dataset
from sweeps.records import Front

_CLASSES = 10  # that are named


@dataclass(frozen=True)
class State:
    """How far a sweep is.

    Attributes:
        done: members finished or failed.
        failed: members failed among them.
        total: members planned.
        points: operating points measured.
        front: the front so far.
    """

    done: int
    failed: int
    total: int
    points: int
    front: Front


class Progress(Protocol):
    """Shows a sweep's progress. Calls come from the driver's thread only."""

    def note(self, text: str) -> None:
        """Say one thing."""
        ...

    def update(self, state: State) -> None:
        """Show a new state."""
        ...

    def close(self) -> None:
        """Leave the terminal as it was."""
        ...


class Quiet:
    """Shows nothing."""

    def note(self, text: str) -> None:
        """Say nothing."""

    def update(self, state: State) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Do nothing."""


class Lines:
    """One plain line a member, for logs and pipes.

    Args:
        stream: where lines go.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._began = stream, time.monotonic()

    def note(self, text: str) -> None:
        """Print a line."""
        print(text, file=self._stream, flush=True)

    def update(self, state: State) -> None:
        """Print a line."""
        self.note(
            " | ".join(f"{name} {value}" for name, value in facts(state, time.monotonic() - self._began))
        )

    def close(self) -> None:
        """Do nothing."""


class Terminal:
    """A panel that is redrawn in place.

    Args:
        console: the terminal.
    """

    def __init__(self, console: Console) -> None:
        self._console, self._began = console, time.monotonic()
        self._state: State | None = None
        self._live = Live(console=console, get_renderable=self._panel, refresh_per_second=2, transient=True)
        self._started = False

    def note(self, text: str) -> None:
        """Print a line above the panel."""
        self._console.print(text, markup=False, highlight=False)

    def update(self, state: State) -> None:
        """Redraw the panel."""
        self._state = state
        if not self._started:
            self._live.start()
            self._started = True

    def close(self) -> None:
        """Remove the panel."""
        if self._started:
            self._live.stop()
            self._started = False

    def _panel(self) -> Table:
        table = Table.grid(padding=(0, 2))
        if self._state is not None:
            for name, value in facts(self._state, time.monotonic() - self._began):
                table.add_row(name, value)
        return table


def facts(state: State, elapsed: float) -> list[tuple[str, str]]:
    """Name what a state says.

    Args:
        state: how far the sweep is.
        elapsed: seconds since it began.
    """
    rows = [
        ("members", f"{state.done} of {state.total}" + (f" ({state.failed} failed)" if state.failed else ""))
    ]
    rows.append(("points", f"{state.points:,}"))
    best = state.front.best
    if best is not None:
        ratio = state.front.reference_params / best.point.params
        rows.append(("best", f"{best.point.params:,} parameters ({ratio:.1f}x) at {best.point.accuracy:.2%}"))
    rows.append(("hypervolume", f"{state.front.hypervolume:.4f}"))
    if 0 < state.done < state.total:
        rows.append(("left", duration(elapsed / state.done * (state.total - state.done))))
    else:
        rows.append(("took", duration(elapsed)))
    return rows


def data_lines(dataset: Dataset) -> list[str]:
    """Say what a sweep learns from: classes, sizes of the splits, values, and how the files were read."""
    classes = dataset.classes
    more = f" and {len(classes) - _CLASSES} more" if len(classes) > _CLASSES else ""
    low, high = dataset.train.images.aminmax()
    first = (
        f"data {dataset.name}: {len(classes)} classes ({', '.join(classes[:_CLASSES])}{more}); "
        f"{len(dataset.train):,} training, {len(dataset.validation):,} validation and {len(dataset.test):,} "
        f"test images of {'×'.join(map(str, dataset.shape))}; values {int(low)} to {int(high)}"
    )
    return [first, *(f"  {note}" for note in dataset.notes)]


def duration(seconds: float) -> str:
    """Write seconds as a person would."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def make_progress(quiet: bool) -> Progress:
    """Choose how to show progress: nothing, a panel on a terminal, plain lines elsewhere."""
    if quiet:
        return Quiet()
    console = Console(stderr=True)
    return Terminal(console) if console.is_terminal else Lines(sys.stderr)
