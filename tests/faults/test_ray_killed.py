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


LOST = "the sweep was stopped: Ray's "
# name: what is killed and how, what is said of it, and whether the sweep is closed
KILLS = {
    "raylet": ("raylet", signal.SIGKILL, LOST + "node manager (raylet)", True),
    "control service": ("gcs_server", signal.SIGKILL, LOST + "control service (GCS)", True),
    # in order, as `ray stop` does: Ray then ends the driver at once
    "raylet in order": ("raylet", signal.SIGTERM, "the process of the sweep was ended", False),
}


@pytest.mark.parametrize(("part", "number", "said", "closed"), KILLS.values(), ids=KILLS)
def test_a_part_of_ray_that_ends_ends_the_sweep_with_one_line(
    part: str,
    number: signal.Signals,
    said: str,
    closed: bool,
    home: Any,
    long: tuple[str, ...],
    until: Callable[..., None],
) -> None:
    sweep = home.start("sweep", "digits", "search.trials=4", *long, "--json")
    until("members are in training", lambda: list(home.path.glob("sweeps/*/members/*.checkpoint.*")))
    (victim,) = (pid for pid in home.orphans() if Path(f"/proc/{pid}/comm").read_text().strip() == part)
    os.kill(victim, number)
    began = time.monotonic()
    output, errors = home.ended(sweep, status=1)
    assert time.monotonic() - began < MOST_SECONDS
    ledger = home.ledger
    (line,) = [line for line in errors.splitlines() if "core_worker.cc" not in line]  # Ray's own
    assert line.startswith(f"arsvd: {said}")
    assert line.endswith(f" arsvd resume {ledger.facts.id}")
    assert output == ""
    until("Ray has ended", lambda: not home.orphans(), MOST_SECONDS)
    if closed:
        assert home.parent_status(ledger) == "FAILED"
        assert not ledger.storage.exists("sweep.lock")
        assert ledger.storage.exists("front-so-far.json")
