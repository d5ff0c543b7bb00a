"""Sweeps of release 0.1.0 go on: resumed, extended, given to MLflow, loaded from."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sweeps import load_best
from sweeps.ledger.ledger import Ledger

pytestmark = pytest.mark.slow

RELEASE = Path(__file__).parents[2] / "data" / "release-0.1.0"
FINISHED, CUT = "digits-20261126-022810-ccec", "digits-20261126-023154-8605"
# of the interrupted sweep: asked for, filed or not; the other numbers are further points of members
ASKED = (0, 1, 9, 15, 24)
Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    shutil.copytree(RELEASE, tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def arsvd(home: Path) -> Command:
    """Run a command in that home; it must succeed."""

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "MLFLOW_", "ARSVD_"))}
        done = subprocess.run(
            [sys.executable, "-m", "sweeps.cli", *arguments],
            env={**environment, "ARSVD_HOME": str(home), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=400,
        )
        assert done.returncode == 0, done.stderr[-5000:]
        return done

    return run


def records_of(ledger: Ledger) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (ledger.path / "members").iterdir()}


def test_the_finished_sweep_is_resumed_extended_synced_and_loaded_from(
    home: Path, arsvd: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger.open(home, FINISHED)
    before = records_of(ledger)
    said = arsvd("resume", FINISHED, "--quiet").stderr
    assert "damaged" not in said
    assert records_of(ledger) == before
    assert ledger.facts.version == 1
    monkeypatch.setenv("ARSVD_HOME", str(home))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    images = torch.rand(3, 1, 8, 8)
    assert load_best("digits", max_drop=0.05)(images).shape == (3, 10)

    arsvd("resume", FINISHED, "search.trials=6", "--quiet")
    after = records_of(ledger)
    assert before.items() <= after.items()
    assert [record.number for record in ledger.members()] == list(range(6))
    new = ledger.members()[-1]
    assert new.key == new.config.key(ledger.facts.data_hash, version=1)

    other = f"sqlite:///{home.parent / 'other.db'}"
    synced = json.loads(arsvd("sync", FINISHED, "--to", other, "--json").stdout)
    assert (synced["members"], synced["missing"]) == (6, [])
    assert load_best("digits", max_drop=0.05, tracking_uri=other)(images).shape == (3, 10)
    assert not list(ledger.path.rglob("*.damaged*"))


def test_the_interrupted_sweep_keeps_its_members_and_numbers(home: Path, arsvd: Command) -> None:
    ledger = Ledger.open(home, CUT)
    before = records_of(ledger)
    synced = json.loads(arsvd("sync", CUT, "--json").stdout)
    assert (synced["members"], synced["missing"]) == (4, [])
    said = arsvd("resume", CUT).stderr
    assert "4 members on file, 5 more members" in said
    assert "damaged" not in said
    assert before.items() <= records_of(ledger).items()
    members = ledger.members()
    assert len(members) == 9
    numbers = [record.number for record in members]
    assert tuple(numbers[:5]) == ASKED
    # asked before the kill, and trained now as it was asked
    assert members[4].key == "cce36cba9fbefcae176f"
    assert all(number > max(ASKED) for number in numbers[5:])
    assert len({record.config.seed for record in members}) == 9
    arsvd("resume", CUT, "search.trials=10", "--quiet")
    assert len(ledger.members()) == 10
    assert not list(ledger.path.rglob("*.damaged*"))
