"""What a person sees while a sweep runs."""

import io
import re
from collections.abc import Callable

import pytest
from rich.console import Console

from sweeps.fronts import sweep_front
from sweeps.progress import Lines, Quiet, State, Terminal, duration, facts, make_progress
from sweeps.records import MemberRecord

REFERENCE = (17_226, 17_024)


@pytest.fixture
def state(new_record: Callable[..., MemberRecord]) -> Callable[..., State]:
    def make(done: int = 2, failed: int = 0, total: int = 6, points: int = 1234) -> State:
        records = [new_record(0, [(1722, 0.9), (3000, 0.947)])] if done > failed else []
        return State(done, failed, total, points, sweep_front(records, REFERENCE, 0.005, 288))

    return make


def test_a_state_says_how_far_the_sweep_is(state: Callable[..., State]) -> None:
    assert dict(facts(state(), elapsed=60.0)) == {
        "members": "2 of 6",
        "points": "1,234",
        "best": "3,000 parameters (5.7x) at 94.70%",
        "hypervolume": f"{state().front.hypervolume:.4f}",
        "left": "2 min 00 s",
    }


# name: done, failed, total, what is there and what is not
STATES: dict[str, tuple[int, int, int, dict[str, str], list[str]]] = {
    "before the first member": (0, 0, 6, {"members": "0 of 6", "took": "1 min 00 s"}, ["left", "best"]),
    "members failed": (3, 2, 6, {"members": "3 of 6 (2 failed)", "left": "1 min 00 s"}, ["took"]),
    "all members failed": (
        6,
        6,
        6,
        {"members": "6 of 6 (6 failed)", "hypervolume": "0.0000"},
        ["best", "left"],
    ),
    "all members done": (6, 0, 6, {"members": "6 of 6", "took": "1 min 00 s"}, ["left"]),
}


@pytest.mark.parametrize(("done", "failed", "total", "there", "absent"), STATES.values(), ids=STATES)
def test_states_at_the_ends(
    state: Callable[..., State], done: int, failed: int, total: int, there: dict[str, str], absent: list[str]
) -> None:
    found = dict(facts(state(done, failed, total), elapsed=60.0))
    assert found.items() >= there.items()
    assert not set(absent) & set(found)


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


def test_lines_are_plain_and_one_a_member(state: Callable[..., State]) -> None:
    stream = io.StringIO()
    lines = Lines(stream)
    lines.note("sweep digits-1 [begins]")
    lines.update(state(1))
    lines.update(state(6))
    lines.close()
    first, second, third = stream.getvalue().splitlines()
    assert first == "sweep digits-1 [begins]"
    assert second.startswith("members 1 of 6 | points 1,234 | best 3,000 parameters (5.7x) at 94.70% | hyp")
    assert third.startswith("members 6 of 6 |")
    assert "\x1b" not in stream.getvalue()


def test_a_terminal_shows_a_panel_and_leaves_only_the_notes(state: Callable[..., State]) -> None:
    stream = io.StringIO()
    panel = Terminal(Console(file=stream, force_terminal=True, width=80))
    panel.note("before [brackets]")
    panel.update(state(1))
    panel.update(state(4))
    panel.note("between")
    panel.close()
    panel.close()
    written = stream.getvalue()
    assert "before [brackets]" in written
    assert "4 of 6" in written
    assert written.count("\x1b[?25l") == written.count("\x1b[?25h") == 1  # the cursor comes back
    # what stays on the screen: the panel's last lines are erased
    assert re.search(r"\x1b\[2K[^\n]*$", written)


def test_a_panel_that_never_showed_anything_writes_nothing() -> None:
    stream = io.StringIO()
    Terminal(Console(file=stream, force_terminal=True)).close()
    assert stream.getvalue() == ""


def test_quiet_says_nothing(state: Callable[..., State], capsys: pytest.CaptureFixture[str]) -> None:
    quiet = make_progress(quiet=True)
    assert isinstance(quiet, Quiet)
    quiet.note("hello")
    quiet.update(state())
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
