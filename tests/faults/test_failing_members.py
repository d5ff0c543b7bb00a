"""Fault 7: members that diverge; each is named and told, and the sweep goes on."""

import os
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from mlflow import MlflowClient
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from sweeps.ledger.ledger import Ledger, sweep_ids
from sweeps.ledger.records import FAILED, FINISHED, MemberRecord

MEMBERS = 12
DIVERGING = 1e30  # learning rate
OVERRIDES = (
    f"search.trials={MEMBERS}",
    "search.sampler=random",
    "search.seed=2",
    "resources.pack=4",
    "resources.concurrent=1",
    "training.epochs=2",
    f"training.lr={{choice: [0.005, {DIVERGING}]}}",
    "model.hidden={choice: [[16], [12]]}",
    "model.reference=[16]",
    "model.factors=1",
    "compression.families=[threshold]",
    "compression.finetune_epochs=0",
    "select.max_drop=0.5",
)


def kind(record: MemberRecord) -> str:
    """What must become of a member."""
    return "diverges" if record.config.lr == DIVERGING else FINISHED


CAUSES = {
    "diverges": "the loss was not finite in epoch 1",
}


@pytest.mark.slow
def test_members_that_fail_are_named_and_told_and_the_sweep_goes_on(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "MLFLOW_", "TUNE_"))}
    done = subprocess.run(
        [str(Path(sys.executable).with_name("arsvd")), "sweep", "digits", *OVERRIDES],
        cwd=tmp_path,
        env=environment | {"ARSVD_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    (name,) = sweep_ids(tmp_path)
    ledger = Ledger.open(tmp_path, name)
    records = ledger.members()
    assert [record.number for record in records] == list(range(MEMBERS))
    kinds = {record.number: kind(record) for record in records}
    assert set(kinds.values()) == {FINISHED, *CAUSES}  # the seed draws every kind
    # every kind shared a pack with a member that ends well, or this says nothing about pack mates
    packs = [set(list(kinds.values())[start : start + 4]) for start in range(0, MEMBERS, 4)]
    assert {FINISHED, *CAUSES} == set().union(*(pack for pack in packs if FINISHED in pack))
    for record in records:
        if kinds[record.number] == FINISHED:
            assert (record.status, record.cause) == (FINISHED, None)
            assert ledger.weights(record.key).exists()
        else:
            assert record.status == FAILED
            assert record.cause is not None
            assert CAUSES[kinds[record.number]] in record.cause, record.cause
            assert not ledger.weights(record.key).exists()
        assert ledger.read_checkpoint(record.key) is None
    study = optuna.load_study(
        study_name=name, storage=JournalStorage(JournalFileBackend(str(ledger.path / "study.journal")))
    )
    told = {trial.number: trial.state for trial in study.trials}
    ends = {FINISHED: TrialState.COMPLETE}
    assert told == {number: ends.get(found, TrialState.FAIL) for number, found in kinds.items()}
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("arsvd-digits")
    runs = client.search_runs([experiment.experiment_id])
    states = {
        run.data.tags["arsvd.member"]: run.info.status for run in runs if "arsvd.member" in run.data.tags
    }
    assert states == {r.key: "FINISHED" if kinds[r.number] == FINISHED else "FAILED" for r in records}
