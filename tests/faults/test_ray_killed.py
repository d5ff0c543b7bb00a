"""A part of Ray that a sweep cannot do without is killed: one line says so, and how to go on."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
MOST_SECONDS = 30.0


@pytest.mark.parametrize(("part", "named"), [("raylet", "(raylet)"), ("gcs_server", "(GCS)")])
def test_a_killed_part_of_ray_ends_the_sweep_with_one_line(
    part: str, named: str, home: Any, long: tuple[str, ...], until: Callable[..., None]
) -> None:
    sweep = home.start("sweep", "digits", "search.trials=4", *long, "--json")
    until("members are in training", lambda: list(home.path.glob("sweeps/*/members/*.checkpoint.*")))
    (victim,) = (pid for pid in home.orphans() if Path(f"/proc/{pid}/comm").read_text().strip() == part)
    os.kill(victim, signal.SIGKILL)
    began = time.monotonic()
    output, errors = home.ended(sweep, status=1)
    assert time.monotonic() - began < MOST_SECONDS
    ledger = home.ledger
    (line,) = errors.splitlines()
    assert line.startswith("arsvd: the sweep was stopped: Ray's ")
    assert named in line
    assert line.endswith(f"; go on with: arsvd resume {ledger.facts.id}")
    assert output == ""
    until("Ray has ended", lambda: not home.orphans(), MOST_SECONDS)
    assert home.parent_status(ledger) == "FAILED"
    assert not ledger.storage.exists("sweep.lock")
    assert ledger.storage.exists("front-so-far.json")
