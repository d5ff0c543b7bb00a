"""A sweep whose home is a bucket: nothing of it lies on this machine."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from sweeps.ledger.asked import read_asked
from sweeps.ledger.ledger import Ledger, sweep_ids

OVERRIDES = (
    "model.hidden=[16]",
    "model.reference=[16]",
    "training.epochs=2",
    "compression.finetune_epochs=0",
    "compression.families=[threshold]",
    "compression.energy.points=4",
    "resources.pack=1",
)


@pytest.mark.slow
def test_a_sweep_in_a_bucket_is_run_shown_and_extended(new_bucket: Callable[[], str], tmp_path: Path) -> None:
    home = new_bucket()
    environment = os.environ | {
        "ARSVD_HOME": home,
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
        "OMP_NUM_THREADS": "1",
    }

    def arsvd(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "sweeps.cli", *arguments],
            env=environment | variables,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=600,
        )

    refused = arsvd("sweep", "digits", ARSVD_STUDY="postgresql://host/database")
    assert (refused.returncode, "no longer kept in databases: unset it" in refused.stderr) == (2, True)
    refused = arsvd("sweep", "digits", MLFLOW_TRACKING_URI="")
    assert (refused.returncode, "the embedded tracking store cannot be" in refused.stderr) == (2, True)
    assert sweep_ids(home) == []

    done = arsvd("sweep", "digits", "search.trials=2", *OVERRIDES)
    assert done.returncode == 0, done.stderr
    (name,) = sweep_ids(home)
    assert f"{home}/sweeps/{name}/report/front.html" in done.stdout
    done = arsvd("resume", name, "search.trials=3", "--quiet")
    assert done.returncode == 0, done.stderr
    shown = arsvd("show", name, "--json")
    assert len(json.loads(shown.stdout)["front"]["points"]) > 0
    assert name in arsvd("list").stdout

    ledger = Ledger.open(home, name)
    assert [record.status for record in ledger.members()] == ["finished"] * 3
    assert ledger.storage.files("report") == ["baselines.csv", "front.csv", "front.html", "front.png"]
    assert ledger.storage.files("") == [
        "begun.yaml",
        "data.json",
        "front.json",
        "provenance.json",
        "sweep.json",
        "sweep.yaml",
    ]
    # no journal: an object is not appended to
    assert ledger.storage.folders("") == ["asked", "members", "report"]
    assert {member.key for member in read_asked(ledger, 3, pytest.fail)} == set(ledger.member_keys())
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("arsvd-digits").experiment_id])
    assert sorted(run.info.status for run in runs) == ["FINISHED"] * 4
    assert {path.name for path in tmp_path.iterdir()} <= {"mlflow.db", "artifacts"}
