"""Fault 7: a process that is killed again and again, as for want of memory; only who is alone in it fails."""

import contextlib
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("pack", "failures"), [(1, 1), (2, 0)])
def test_a_pack_that_dies_every_time_is_divided_and_a_member_that_does_fails(
    pack: int, failures: int, home: Any, small: tuple[str, ...], until: Callable[..., None]
) -> None:
    overrides = ("search.trials=3", *small, "resources.concurrent=1", "training.epochs=150")
    overrides += ("resources.checkpoint_every=0.2", f"resources.pack={pack}")
    sweep = home.start("sweep", "digits", *overrides)
    killed: set[int] = set()
    for attempt in range(3):  # the first try and two more
        until(f"attempt {attempt} is in training", lambda: _training(home) - killed)
        (victim,) = _training(home) - killed
        os.kill(victim, signal.SIGKILL)
        killed.add(victim)
    home.ended(sweep)
    home.audit(home.ledger, planned=3, failed=failures)
    for failed in (record for record in home.ledger.members() if record.status == "failed"):
        assert failed.number == 0
        assert "died unexpectedly" in failed.cause
        assert "out of memory" in failed.cause.lower() or "OOM" in failed.cause


def _training(home: Any) -> set[int]:
    """Find the processes of trials, once a member has written a checkpoint."""
    if not list(home.path.glob("sweeps/*/members/*.checkpoint.safetensors")):
        return set()
    found = set()
    for pid in home.orphans():
        with contextlib.suppress(OSError):
            if re.match(rb"ray::\w*Trainable", Path(f"/proc/{pid}/cmdline").read_bytes()):
                found.add(pid)
    return found
