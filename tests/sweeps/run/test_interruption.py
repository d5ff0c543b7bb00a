"""Signals, and a cluster that is lost, end a sweep in order; the second Ctrl-C ends it at once."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from sweeps.run import interruption as module
from sweeps.run.interruption import Interruption, watch_signals

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


class AtOnceError(Exception):
    """Stands in for the end of the process."""


@pytest.fixture(autouse=True)
def process(monkeypatch: pytest.MonkeyPatch) -> None:
    def end(status: int) -> None:
        raise AtOnceError(status)

    monkeypatch.setattr(module.os, "_exit", end)


@pytest.fixture
def watched() -> Iterator[Interruption]:
    with watch_signals() as interruption:
        yield interruption


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_interrupts_what_does_not_look_for_it(
    number: signal.Signals, watched: Interruption, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)
    assert watched.requested
    assert watched.lost is None
    assert "ending the sweep in order" in capfd.readouterr().err


@pytest.mark.parametrize("number", SIGNALS)
def test_training_looks_for_signals_itself(number: signal.Signals, watched: Interruption) -> None:
    with watched.awaited():
        signal.raise_signal(number)
    assert watched.requested


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_ends_at_once_and_says_how_to_go_on(
    number: signal.Signals, watched: Interruption, capfd: pytest.CaptureFixture[str]
) -> None:
    with watched.awaited(), watched.sweep("arsvd resume digits-1"):
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(AtOnceError, match="130"):
            signal.raise_signal(number)
    assert capfd.readouterr().err.endswith("arsvd: go on with: arsvd resume digits-1\n")


def test_another_process_knows_how_a_sweep_goes_on_while_it_runs(watched: Interruption) -> None:
    told: list[str] = []
    watched.last_words = told.append
    with watched.sweep("arsvd resume digits-1"):
        assert told == ["arsvd: the process of the sweep was ended; go on with: arsvd resume digits-1"]
    assert told[1:] == [""]


def test_a_terminal_that_closes_may_say_so_twice(watched: Interruption) -> None:
    with watched.awaited():
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGHUP)
    assert watched.requested


def test_handlers_are_put_back() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with watch_signals():
        assert signal.getsignal(signal.SIGHUP) != before[2]
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_nohup_is_obeyed() -> None:
    code = "import signal; from sweeps.run.interruption import watch_signals\n"
    code += "with watch_signals() as watched: signal.raise_signal(signal.SIGHUP); print(watched.requested)"
    command = ["nohup", sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr


def test_a_lost_cluster_interrupts_the_main_thread_even_while_it_awaits_signals(
    watched: Interruption,
) -> None:
    def loses() -> None:
        with watched.awaited(), watched.sweep("arsvd resume digits-1"):
            thread = threading.Thread(target=watched.lose, args=("Ray's node manager has ended",))
            thread.start()
            ended.wait(20)

    ended = threading.Event()
    with pytest.raises(KeyboardInterrupt):
        loses()
    assert watched.requested
    assert watched.words == (
        "the sweep was stopped: Ray's node manager has ended; go on with: arsvd resume digits-1"
    )


@pytest.mark.parametrize("signalled", [False, True])
def test_a_main_thread_that_hangs_in_a_lost_cluster_is_left(
    signalled: bool,
    watched: Interruption,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(module, "_BEGIN_SECONDS", 0.05)
    monkeypatch.setattr(module.os, "kill", lambda *_: None)  # as if no handler could run
    rescued = []
    with watched.sweep("arsvd resume digits-1"), watched.ending(lambda: rescued.append(True)):
        if signalled:
            with watched.awaited():
                signal.raise_signal(signal.SIGTERM)
        with pytest.raises(AtOnceError, match="130" if signalled else "1"):
            watched.lose("Ray's control service does not answer")
    assert rescued
    cause = "it was interrupted" if signalled else "Ray's control service does not answer"
    line = f"arsvd: the sweep was stopped: {cause}; go on with: arsvd resume digits-1"
    assert capfd.readouterr().err.splitlines()[-1] == line


def test_an_end_that_takes_too_long_is_cut_short_with_the_line_that_resumes(
    watched: Interruption, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "_END_SECONDS", 0.05)
    monkeypatch.setattr(module.os, "kill", lambda *_: None)
    with watched.sweep("arsvd resume digits-1"):
        with watched.ending(lambda: pytest.fail("the main thread ends it itself")):
            pass
        with pytest.raises(AtOnceError):
            watched.lose("Ray's control service does not answer")
    assert capfd.readouterr().err.endswith("go on with: arsvd resume digits-1\n")


def test_a_sweep_that_is_ending_already_ends_with_what_it_was_ended_by(
    watched: Interruption, monkeypatch: pytest.MonkeyPatch
) -> None:
    with watched.awaited(), watched.sweep("arsvd resume digits-1"):
        signal.raise_signal(signal.SIGTERM)
        thread = threading.Thread(target=watched.lose, args=("Ray's node manager has ended",))
        thread.start()
    thread.join(20)
    assert not thread.is_alive()
    assert watched.signalled
    assert watched.words == "the sweep was stopped: it was interrupted; go on with: arsvd resume digits-1"
