"""What people see while a sweep runs."""

import contextlib
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TextIO

from rich import progress
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:  # these take seconds to import, and something should be shown meanwhile
    from arsvd.data import Dataset
    from sweeps.ledger.records import Front

STARTING = "loading PyTorch, MLflow and Ray, which takes some seconds"
_LINE_SECONDS = 5.0  # between two lines of progress

_CLASSES = 10  # named at most


@dataclass(frozen=True)
class State:
    """The progress of a sweep.

    Attributes:
        done: number of members finished or failed.
        failed: number of members that failed.
        total: number of members planned.
        points: number of operating points measured.
        front: the front so far.
        epochs: number of epochs that members have had, including those in training.
        all_epochs: number of epochs that all members will have had; 0 while no member is known.
        left: seconds until the last member is on file, from now on; None while nothing is known.
        least: True if `left` is only a lower bound.
    """

    done: int
    failed: int
    total: int
    points: int
    front: "Front"
    epochs: int = 0
    all_epochs: int = 0
    left: float | None = None
    least: bool = False


class Progress(Protocol):
    """Shows a sweep's progress. Calls come from the driver's thread only."""

    def note(self, text: str) -> None:
        """Show one message."""
        ...

    def update(self, state: State) -> None:
        """Show a new state."""
        ...

    def step(self, text: str, done: int, total: int) -> None:
        """Show how far a step after the last member is.

        Args:
            text: name of the step.
            done: number of parts done.
            total: number of parts in all.
        """
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

    def step(self, text: str, done: int, total: int) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Do nothing."""


class Lines:
    """Plain lines for logs and pipes, with one line of progress every few seconds.

    Args:
        stream: text stream to write to.
        every: seconds between two lines of progress.
    """

    def __init__(self, stream: TextIO, every: float = _LINE_SECONDS) -> None:
        self._stream, self._every = stream, every
        self._began, self._told = time.monotonic(), -float("inf")

    def note(self, text: str) -> None:
        """Print a line."""
        with contextlib.suppress(OSError):  # nobody reads any more; the sweep continues
            print(text, file=self._stream, flush=True)

    def update(self, state: State) -> None:
        """Print a line, unless there was one just now and the last member is not done."""
        now = time.monotonic()
        if now - self._told < self._every and state.done < state.total:
            return
        self._told = now
        rows = facts(state)
        if state.done == state.total:
            rows.append(("took", duration(now - self._began)))
        elif state.left is not None:
            rows.append(("left", left_text(state)))
        self.note(" | ".join(f"{name} {value}" for name, value in rows))

    def step(self, text: str, done: int, total: int) -> None:
        """Print a line, unless there was one just now; nothing is printed at the end."""
        now = time.monotonic()
        if now - self._told >= self._every and done < total:
            self._told = now
            self.note(f"{text} | {done:,} of {total:,}")

    def close(self) -> None:
        """Do nothing."""


class Terminal:
    """A bar with the results so far, redrawn in place.

    Args:
        console: terminal to draw on.
    """

    def __init__(self, console: Console) -> None:
        self._panel = _Panel(
            progress.BarColumn(), progress.TaskProgressColumn(), _Left(), console=console, transient=True
        )
        self._step: progress.Progress | None = None

    def note(self, text: str) -> None:
        """Print a line above the bar."""
        with contextlib.suppress(OSError):  # the terminal is gone; the sweep continues
            self._panel.console.print(text, markup=False, highlight=False)

    def update(self, state: State) -> None:
        """Redraw the bar, and remove it when the last member is done."""
        if state.done == state.total:
            self.close()
            return
        with contextlib.suppress(OSError):
            self._panel.show(state)
            self._panel.start()

    def step(self, text: str, done: int, total: int) -> None:
        """Redraw the bar of a step, and remove it at the step's end."""
        if done >= total:
            self.close()
            return
        with contextlib.suppress(OSError):
            if self._step is None:
                columns = progress.TextColumn("{task.description}"), progress.BarColumn()
                self._step = progress.Progress(
                    *columns,
                    progress.MofNCompleteColumn(),
                    progress.TimeRemainingColumn(),
                    console=self._panel.console,
                    transient=True,
                )
                self._step.add_task(text, total=total)
                self._step.start()
            self._step.update(self._step.tasks[0].id, description=text, completed=done, total=total)

    def close(self) -> None:
        """Remove the bars."""
        with contextlib.suppress(OSError):
            self._panel.stop()
            if self._step is not None:
                self._step.stop()
                self._step = None


class _Panel(progress.Progress):
    """Rich's bar, with the facts of a state above it."""

    def show(self, state: State) -> None:
        """Show a new state."""
        if not self.tasks:
            self.add_task("", total=None)  # without a total the bar only moves
        self.update(
            self.tasks[0].id,
            total=state.all_epochs or None,
            completed=state.epochs,
            state=state,
            since=self.get_time(),
        )

    def get_renderables(self) -> Iterable[RenderableType]:
        """Draw both."""
        if self.tasks:
            table = Table.grid(padding=(0, 2))
            for name, value in facts(self.tasks[0].fields["state"]):
                table.add_row(name, value)
            yield table
        yield self.make_tasks_table(self.tasks)


class _Left(progress.ProgressColumn):
    """The time left, which counts down between two states."""

    def render(self, task: progress.Task) -> Text:
        """Draw it."""
        state: State = task.fields["state"]
        passed = task.get_time() - task.fields["since"]
        return Text("" if state.left is None else f"{left_text(state, passed)} left")


def facts(state: State) -> list[tuple[str, str]]:
    """List the facts of a state, as pairs of a name and a text."""
    rows = [
        ("members", f"{state.done} of {state.total}" + (f" ({state.failed} failed)" if state.failed else ""))
    ]
    if state.all_epochs:
        rows.append(("epochs", f"{state.epochs:,} of {state.all_epochs:,}"))
    if state.done:
        rows.append(("points", f"{state.points:,}"))
    best = state.front.best
    if best is not None:
        ratio = state.front.ratio(best.point.cost.numbers)
        rows.append(
            ("best", f"{best.point.cost.numbers:,} parameters ({ratio:.1f}x) at {best.point.accuracy:.2%}")
        )
    if state.done:
        rows.append(("hypervolume", f"{state.front.hypervolume:.4f}"))
    return rows


def data_lines(dataset: "Dataset") -> list[str]:
    """Describe a sweep's data: classes, sizes of the splits, values, and how the files were read."""
    classes = dataset.classes
    more = f" and {len(classes) - _CLASSES} more" if len(classes) > _CLASSES else ""
    low, high = dataset.train.images.aminmax()
    confirmation = "" if dataset.confirmation is None else f", {len(dataset.confirmation):,} confirmation"
    first = (
        f"data {dataset.name}: {len(classes)} classes ({', '.join(classes[:_CLASSES])}{more}); "
        f"{len(dataset.train):,} training, {len(dataset.validation):,} validation{confirmation} and "
        f"{len(dataset.test):,} test images of {'×'.join(map(str, dataset.shape))}; "
        f"values {int(low)} to {int(high)}"
    )
    return [first, *(f"  {note}" for note in dataset.notes)]


def left_text(state: State, passed: float = 0.0) -> str:
    """Write the time left.

    Args:
        state: state with an estimate.
        passed: seconds since the estimate was made.
    """
    return ("at least " if state.least else "") + duration(max(0.0, (state.left or 0.0) - passed))


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
