"""Signals: once ends a sweep in order, twice at once; what was in training is trained on resume."""

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.slow


# name: signals, and whether a resume is tried too
SIGNALS = {
    "Ctrl-C": ([signal.SIGINT], True),
    "SIGTERM": ([signal.SIGTERM], False),
    "a closed terminal": ([signal.SIGHUP, signal.SIGHUP], False),  # from the shell and from the kernel
}


@pytest.mark.parametrize(("signals", "resumed"), SIGNALS.values(), ids=SIGNALS)
def test_a_signal_reports_the_front_so_far_and_a_resume_goes_on(
    signals: list[signal.Signals],
    resumed: bool,
    home: Any,
    small: tuple[str, ...],
    until: Callable[..., None],
) -> None:
    sweep = home.start("sweep", "digits", "search.trials=8", "training.epochs=20", *small[:1], *small[2:])
    until("two members are filed", lambda: home.filed >= 2)
    ledger = home.ledger
    for number in signals:
        if number == signal.SIGTERM:
            os.kill(sweep.pid, number)
        else:
            os.killpg(sweep.pid, number)  # to the whole group, as a terminal does
    output, errors = home.ended(sweep, status=130)

    assert "ending the sweep in order" in errors
    assert f"arsvd resume {ledger.facts.id}" in errors
    assert "front so far" in output
    assert "Traceback" not in errors
    until("Ray has ended", lambda: not home.orphans())
    filed = home.filed
    asked = [member.key for member in home.asked(ledger)]
    assert 2 <= filed < 8
    assert set(ledger.member_keys()) <= set(asked)
    assert len(set(asked)) == len(asked) <= 8
    assert {record.status for record in ledger.members()} == {"finished"}
    assert ledger.front() is None
    assert ledger.storage.exists("front-so-far.json")
    assert not ledger.storage.exists("sweep.lock")
    assert home.parent_status(ledger) == "KILLED"

    if not resumed:
        return
    home.run("resume", ledger.facts.id, "--quiet")
    home.audit(ledger, planned=8)
    assert not ledger.storage.exists("front-so-far.json")


def test_ctrl_c_twice_ends_at_once(home: Any, long: tuple[str, ...], until: Callable[..., None]) -> None:
    sweep = home.start("sweep", "digits", "search.trials=4", *long)
    until("members are in training", lambda: _training(home))
    os.killpg(sweep.pid, signal.SIGINT)
    os.killpg(sweep.pid, signal.SIGINT)
    _, errors = home.ended(sweep, status=130)
    until("Ray has ended", lambda: not home.orphans())
    assert home.filed == 0
    assert "Traceback" not in errors
    assert errors.endswith(f"arsvd resume {home.ledger.facts.id}\n")


def _training(home: Any) -> bool:
    return bool(home.path.exists() and list(home.path.glob("sweeps/*/members/*.checkpoint.safetensors")))
