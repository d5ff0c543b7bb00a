"""What a person sees while a sweep runs."""

import io
import re
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from sweeps.ledger.joined_front import sweep_front
from sweeps.ledger.records import MemberRecord
from sweeps.run import progress as module
from sweeps.run.progress import (
    STARTING,
    Lines,
    Quiet,
    State,
    Terminal,
    duration,
    facts,
    left_text,
    make_progress,
)

REFERENCE = (17_226, 17_024)


@pytest.fixture
def state(new_record: Callable[..., MemberRecord]) -> Callable[..., State]:
    def make(done: int = 2, failed: int = 0, total: int = 6, points: int = 1234, **pace: Any) -> State:
        records = [new_record(0, [(1722, 0.9), (3000, 0.947)])] if done > failed else []
        return State(done, failed, total, points, sweep_front(records, REFERENCE, 0.005, 288), **pace)

    return make


def test_a_state_says_how_far_the_sweep_is(state: Callable[..., State]) -> None:
    assert dict(facts(state(epochs=75, all_epochs=180))) == {
        "members": "2 of 6",
        "epochs": "75 of 180",
        "points": "1,234",
        "best": "3,000 parameters (5.7x) at 94.70%",
        "hypervolume": f"{state().front.hypervolume:.4f}",
    }


# name: done, failed, total, what is there and what is not
STATES: dict[str, tuple[int, int, int, dict[str, str], list[str]]] = {
    "before the first member": (0, 0, 6, {"members": "0 of 6"}, ["best", "points", "hypervolume"]),
    "members failed": (3, 2, 6, {"members": "3 of 6 (2 failed)"}, []),
    "all members failed": (6, 6, 6, {"members": "6 of 6 (6 failed)", "hypervolume": "0.0000"}, ["best"]),
    "all members done": (6, 0, 6, {"members": "6 of 6"}, []),
}


@pytest.mark.parametrize(("done", "failed", "total", "there", "absent"), STATES.values(), ids=STATES)
def test_states_at_the_ends(
    state: Callable[..., State], done: int, failed: int, total: int, there: dict[str, str], absent: list[str]
) -> None:
    found = dict(facts(state(done, failed, total)))
    assert found.items() >= there.items()
    assert not set(absent) & set(found)


# name: estimate, whether it takes longer, seconds since, text
LEFT = {
    "just estimated": (120.0, False, 0.0, "2 min 00 s"),
    "it comes down": (120.0, False, 50.0, "1 min 10 s"),
    "never below nothing": (120.0, False, 500.0, "0 s"),
    "nothing was measured yet": (120.0, True, 50.0, "at least 1 min 10 s"),
}


@pytest.mark.parametrize(("left", "least", "passed", "text"), LEFT.values(), ids=LEFT)
def test_the_time_left_only_comes_down_between_two_estimates(
    state: Callable[..., State], left: float, least: bool, passed: float, text: str
) -> None:
    assert left_text(state(left=left, least=least), passed) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (61, "1 min 01 s"),
        (3599.7, "1 h 00 min"),
        (3660, "1 h 01 min"),
        (100 * 3600, "100 h 00 min"),
    ],
)
def test_durations_are_written_as_a_person_would(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_lines_are_plain_and_one_every_few_seconds(
    state: Callable[..., State], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(module.time, "monotonic", lambda: clock.now)
    stream = io.StringIO()
    lines = Lines(stream, every=5.0)
    lines.note("sweep digits-1 [begins]")
    for second in range(60):
        clock.now = 100.0 + second
        lines.update(state(0, epochs=second, all_epochs=180, left=60.0 - second, least=True))
    lines.update(state(6, epochs=180, all_epochs=180, left=0.0))  # the last member, whenever it comes
    lines.close()
    first, *steps, last = stream.getvalue().splitlines()
    assert first == "sweep digits-1 [begins]"
    assert len(steps) == 12
    assert steps[0] == "members 0 of 6 | epochs 0 of 180 | left at least 1 min 00 s"
    assert steps[-1] == "members 0 of 6 | epochs 55 of 180 | left at least 5 s"
    assert last.startswith("members 6 of 6 | epochs 180 of 180 | points 1,234 | best 3,000 parameters (5.7x)")
    assert last.endswith(" | took 59 s")
    assert "\x1b" not in stream.getvalue()


def test_a_terminal_shows_a_bar_that_comes_down_by_itself_and_leaves_only_the_notes(
    state: Callable[..., State], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=100.0)
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=80, get_time=lambda: clock.now)
    bar = Terminal(console)
    bar.note("before [brackets]")
    bar.update(state(0, epochs=3, all_epochs=180, left=90.0, least=True))
    clock.now += 10
    bar._panel.refresh()
    assert "at least 1 min 20 s left" in stream.getvalue()
    bar.update(state(4, epochs=90, all_epochs=180, left=70.0))
    bar.note("between")
    bar.close()
    bar.close()
    written = stream.getvalue()
    assert "before [brackets]" in written
    assert "at least 1 min 30 s left" in written
    assert "4 of 6" in written
    assert "90 of 180" in written
    assert " 50%" in written
    assert "1 min 10 s left" in written
    assert "\u2501" in written
    assert written.count("\x1b[?25l") == written.count("\x1b[?25h") == 1  # the cursor comes back
    # what stays on the screen: the bar's last lines are erased
    assert re.search(r"\x1b\[2K[^\n]*$", written)


def test_a_step_after_the_members_has_lines_and_a_bar_of_its_own(
    state: Callable[..., State], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(module.time, "monotonic", lambda: clock.now)
    stream = io.StringIO()
    lines = Lines(stream, every=5.0)
    for second in range(13):
        clock.now = 100.0 + second
        lines.step("registering models", second, 12)
    assert stream.getvalue().splitlines() == [
        "registering models | 0 of 12",
        "registering models | 5 of 12",
        "registering models | 10 of 12",
    ]

    stream = io.StringIO()
    bar = Terminal(Console(file=stream, force_terminal=True, width=80))
    bar.update(state(6, epochs=180, all_epochs=180))
    for done in range(13):
        bar.step("registering models", done, 12)
    bar.close()
    written = stream.getvalue()
    assert "registering models" in written
    assert " 0/12" in written
    assert written.count("\x1b[?25l") == written.count("\x1b[?25h") == 1
    assert re.search(r"\x1b\[2K[^\n]*$", written)


def test_a_bar_ends_with_the_last_member(state: Callable[..., State]) -> None:
    stream = io.StringIO()
    bar = Terminal(Console(file=stream, force_terminal=True, width=80))
    bar.update(state(5, epochs=150, all_epochs=180))
    bar.update(state(6, epochs=180, all_epochs=180))
    assert re.search(r"\x1b\[2K[^\n]*$", stream.getvalue())


def test_a_bar_that_never_showed_anything_writes_nothing() -> None:
    stream = io.StringIO()
    Terminal(Console(file=stream, force_terminal=True)).close()
    assert stream.getvalue() == ""


class Gone(io.StringIO):
    """A terminal that was closed, or a pipe that nobody reads."""

    def write(self, text: str) -> int:
        raise OSError(5, "Input/output error")


@pytest.mark.parametrize(
    "make",
    [Lines, lambda stream: Terminal(Console(file=stream, force_terminal=True))],
    ids=["pipe", "terminal"],
)
def test_a_sweep_goes_on_where_nobody_reads(make: Callable[..., Any], state: Callable[..., State]) -> None:
    progress = make(Gone())
    progress.note("a trial is tried again")
    progress.update(state(1, epochs=30, all_epochs=180))
    progress.step("registering models", 1, 12)
    progress.close()


def test_the_first_line_comes_before_anything_that_takes_seconds_to_load() -> None:
    """Not by the clock, which a busy machine delays: by what is loaded when it comes."""
    code = """
import sys
from sweeps.cli import main
from sweeps.run import progress

def say(self, text):
    heavy = {"torch", "ray", "mlflow", "sklearn", "matplotlib"} & set(sys.modules)
    print(text, sorted(heavy))
    raise SystemExit(0)

progress.Lines.note = say
main(sys.argv[1:])
"""
    for command in (["sweep", "digits"], ["resume", "digits-1"]):
        done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True)
        assert done.stdout == f"{STARTING} []\n", done.stderr


def test_quiet_says_nothing(state: Callable[..., State], capsys: pytest.CaptureFixture[str]) -> None:
    quiet = make_progress(quiet=True)
    assert isinstance(quiet, Quiet)
    quiet.note("hello")
    quiet.update(state())
    quiet.step("registering models", 1, 2)
    quiet.close()
    assert capsys.readouterr() == ("", "")


def test_lines_are_for_pipes_and_go_to_stderr(
    state: Callable[..., State], capsys: pytest.CaptureFixture[str]
) -> None:
    progress = make_progress(quiet=False)
    assert isinstance(progress, Lines)
    progress.update(state())
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("members 2 of 6 | ")


def test_a_terminal_gets_a_panel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert isinstance(make_progress(quiet=False), Terminal)
