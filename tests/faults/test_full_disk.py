"""Fault 6: the disk of the ledger is full; the sweep stops in order, and goes on after space is made."""

import contextlib
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
MEMBERS = 6


@pytest.fixture
def small_disk(home: Any) -> Iterator[Path]:
    """A disk of 16 MB for the sweeps of the home; MLflow's store is elsewhere."""
    home.variables["MLFLOW_TRACKING_URI"] = f"sqlite:///{home.path.parent}/mlflow.db"
    disk = home.path / "sweeps"
    disk.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(disk)], capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_full_disk_stops_the_sweep_with_a_clear_error_and_a_resume_completes_it(
    home: Any, small_disk: Path, small: tuple[str, ...], until: Callable[..., None]
) -> None:
    ballast = small_disk / "ballast"
    sweep = home.start("sweep", "digits", f"search.trials={MEMBERS}", *small, "training.epochs=40")
    until("a member is filed", lambda: home.filed >= 1)
    _fill(ballast)
    _, errors = home.ended(sweep, status=1)

    ledger = home.ledger
    (message,) = [line for line in errors.splitlines() if line.startswith("arsvd: ")]
    assert f"cannot write {ledger.path}" in message
    assert "No space left on device" in message
    assert "when that is mended, go on with: " in message
    assert message.endswith(f"arsvd resume {ledger.facts.id}")
    assert "Traceback" not in errors
    assert errors.count("No space left") == 1  # no storm of retries
    until("Ray has ended", lambda: not home.orphans())
    records = ledger.members()
    assert 1 <= len(records) < MEMBERS
    assert all(record.status == "finished" for record in records)
    assert home.parent_status(ledger) == "FAILED"

    home.ended(home.start("resume", ledger.facts.id, "--quiet"), status=1)  # still full

    ballast.unlink()
    home.run("resume", ledger.facts.id, "--quiet")
    home.audit(ledger, planned=MEMBERS)


def _fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x" * 4096):
            pass
    assert shutil.disk_usage(ballast.parent).free == 0
