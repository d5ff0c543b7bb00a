"""MLflow completed from a ledger: what is missing, no more, as often as one likes."""

import functools
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from mlflow import MlflowClient
from mlflow.entities import Run

from arsvd.data import Dataset
from sweeps.cli import main
from sweeps.config import SweepConfig
from sweeps.ledger.joined_front import reference_size, sweep_front
from sweeps.ledger.ledger import Ledger
from sweeps.ledger.lock import hold
from sweeps.ledger.records import FAILED, MemberRecord
from sweeps.run.finish import Models, with_test
from sweeps.run.syncing import Synced, sync_sweep
from sweeps.tracking import SweepWriter, TrackingError, connect, load_best
from sweeps.tracking.registry import registered_versions
from sweeps.trial.packs import Task, run_members
from sweeps.trial.weights import save_member
from sweeps.trial.workbench import Analysis, Workbench

TRAINED, POINTS = 2, 2
ARTIFACTS = {"sweep.yaml", "front.json", "front.csv", "baselines.csv", "front.png", "front.html"}


@pytest.fixture(scope="module")
def filed_home(tmp_path_factory: Any, new_config: Any, new_member: Any, digits: Dataset) -> Path:
    """A home with one ended sweep that no MLflow has heard of: two members and one that failed."""
    home = tmp_path_factory.mktemp("filed")
    config: SweepConfig = new_config(f"search.trials={TRAINED + 1}", "compression.energy.points=8")
    reference = reference_size([digits.features, *config.model.reference, 10])
    ledger = Ledger.create(home, config, digits, reference)
    tasks = [Task(number, new_member(hidden=[12], seed=number)) for number in range(TRAINED)]
    bench = Workbench(digits, torch.device("cpu"))
    for record, weights in run_members(tasks, bench, Analysis.from_config(config)):
        assert weights is not None
        write = functools.partial(save_member, weights=weights)
        ledger.write_member(record.with_weights(ledger.write_weights(record.key, write)))
    broken = new_member(seed=TRAINED)
    cause = "the loss is not finite"
    ledger.write_member(MemberRecord(broken.key(digits.hash), TRAINED, FAILED, cause, broken))
    records = ledger.members()
    front = sweep_front(records, reference, config.select.max_drop, len(digits.validation))
    assert len(front.points) >= POINTS
    # few are enough here: each is exported
    front = replace(front, points=front.points[-POINTS:])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ARSVD_HOME", str(home))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        connect()  # an empty store: making its tables takes a second, copying them nothing
    ledger.write_front(with_test(front, Models(ledger, digits, records).of(front), digits))
    return home


@pytest.fixture
def home(filed_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    shutil.copytree(filed_home, home)
    monkeypatch.setenv("ARSVD_HOME", str(home))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return home


@pytest.fixture
def ledger(home: Path) -> Ledger:
    (folder,) = (home / "sweeps").iterdir()
    return Ledger(folder)


def runs(client: MlflowClient) -> list[Run]:
    experiment = client.get_experiment_by_name("arsvd-digits")
    return list(client.search_runs([experiment.experiment_id], order_by=["attributes.run_name"]))


def everything(client: MlflowClient) -> dict[str, Any]:
    """All that MLflow has, down to every value of every metric and every time."""
    experiment = client.get_experiment_by_name("arsvd-digits").experiment_id
    found = runs(client)
    return {
        "runs": [run.to_dictionary() for run in found],
        "histories": {
            (run.info.run_id, key): sorted((m.step, m.timestamp, m.value) for m in history)
            for run in found
            for key in run.data.metrics
            if (history := client.get_metric_history(run.info.run_id, key))
        },
        "outputs": [[o.model_id for o in run.outputs.model_outputs] for run in found if run.outputs],
        "models": sorted(m.model_id for m in client.search_logged_models([experiment], max_results=50)),
        "versions": registered_versions(client, "digits"),
        "aliases": client.get_registered_model("arsvd-digits").aliases,
        "artifacts": {file.path for run in found for file in client.list_artifacts(run.info.run_id)},
    }


def check_whole(client: MlflowClient, ledger: Ledger, done: Synced) -> dict[str, Any]:
    assert done.missing == ()
    assert (done.members, done.final) == (TRAINED + 1, True)
    found = everything(client)
    states = [(run["info"]["run_name"], run["info"]["status"]) for run in found["runs"]]
    assert states == [
        ("member 0: 12", "FINISHED"),
        ("member 1: 12", "FINISHED"),
        ("member 2: 16-8", "FAILED"),
        (f"sweep {ledger.facts.id}", "FINISHED"),
    ]
    front = ledger.front()
    assert front is not None
    assert [version.params for version in found["versions"]] == [e.point.params for e in front.points]
    assert len(found["models"]) == POINTS
    # the links of a run cannot be taken back: one to a deleted model stays
    assert set(found["outputs"][-1]) >= set(found["models"])
    assert {"smallest", "most-accurate"} <= set(found["aliases"])
    assert found["artifacts"] == ARTIFACTS
    parent = runs(client)[-1]
    assert parent.data.metrics["final_hypervolume"] == pytest.approx(front.hypervolume)
    steps = {m.step: m.value for m in client.get_metric_history(parent.info.run_id, "hypervolume")}
    assert sorted(steps) == list(range(1, TRAINED + 2))
    whole = sweep_front(ledger.members(), ledger.facts.reference, 0.0, 1)
    assert steps[TRAINED + 1] == pytest.approx(whole.hypervolume)
    return found


def test_a_version_that_cannot_be_read_is_named_and_the_others_stay(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    sync_sweep(ledger)
    client = connect()
    whole = registered_versions(client, "digits")
    client.set_model_version_tag("arsvd-digits", "1", "assured_accuracy", "-0.001")
    with caplog.at_level("WARNING"):
        assert registered_versions(client, "digits") == whole[1:]
    assert "version 1 of 'arsvd-digits' has an unreadable tag" in caplog.text


def test_a_report_that_an_earlier_front_left_is_written_again(ledger: Ledger) -> None:
    page = ledger.path / "report" / "front.html"
    page.write_text("the front before the sweep went on")
    check_whole(connect(), ledger, sync_sweep(ledger))
    assert ledger.facts.id in page.read_text()


def test_an_ended_sweep_is_brought_into_an_empty_store_once(
    home: Path, ledger: Ledger, digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = check_whole(connect(), ledger, sync_sweep(ledger))
    assert sorted(first["outputs"][-1]) == first["models"]
    monkeypatch.setenv("ARSVD_DATA", str(tmp_path / "nowhere"))
    monkeypatch.setattr(
        "sweeps.run.syncing.find_data", pytest.fail
    )  # needed for models that are missing only
    again = sync_sweep(ledger)
    assert check_whole(connect(), ledger, again) == first
    assert not (home / "sweep.lock").exists()

    # into another server, whose files go beside its own database
    other = f"sqlite:///{tmp_path / 'other' / 'mlflow.db'}"
    (tmp_path / "other").mkdir()
    monkeypatch.undo()
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("ARSVD_HOME", str(home))
    command = ["sync", ledger.facts.id[:9], "--to", other, "--json"]
    said = CliRunner().invoke(main, command)
    assert said.exit_code == 0, said.output
    assert json.loads(said.stdout) == {"server": other, "members": TRAINED + 1, "missing": []}
    check_whole(MlflowClient(other), ledger, sync_sweep(ledger, to=other))
    assert (tmp_path / "other" / "artifacts" / "arsvd-digits").is_dir()
    assert everything(connect()) == first
    images = digits.test.images[:50].float() / 255
    ours = load_best("digits", alias="smallest")
    with torch.no_grad():
        copied = load_best("digits", alias="smallest", tracking_uri=other)(images)
        torch.testing.assert_close(copied, ours(images), rtol=0, atol=0)


def delete_runs(client: MlflowClient, beginning: str) -> None:
    for run in runs(client):
        if run.info.run_name.startswith(beginning):
            client.delete_run(run.info.run_id)


def delete_models(client: MlflowClient) -> None:
    for version in registered_versions(client, "digits"):
        client.delete_logged_model(version.model_id)


def delete_aliases(client: MlflowClient) -> None:
    for alias in client.get_registered_model("arsvd-digits").aliases:
        client.delete_registered_model_alias("arsvd-digits", alias)


# name: what somebody did in MLflow's own pages, all at once
DELETED: dict[str, list[Callable[[MlflowClient], object]]] = {
    "the sweep's run": [lambda client: delete_runs(client, "sweep")],
    "members and aliases": [lambda client: delete_runs(client, "member"), delete_aliases],
    "everything": [lambda client: client.delete_registered_model("arsvd-digits"), delete_models],
    "a version": [lambda client: client.delete_model_version("arsvd-digits", "2")],
    "logged models": [delete_models],
}


@pytest.fixture(scope="module")
def shown_home(filed_home: Path, tmp_path_factory: Any) -> Path:
    home: Path = tmp_path_factory.mktemp("shown") / "home"
    shutil.copytree(filed_home, home)
    return home


@pytest.mark.parametrize("deeds", DELETED.values(), ids=DELETED)
def test_deleted_runs_and_models_are_restored(
    shown_home: Path, monkeypatch: pytest.MonkeyPatch, deeds: list[Callable[[MlflowClient], object]]
) -> None:
    monkeypatch.setenv("ARSVD_HOME", str(shown_home))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (folder,) = (shown_home / "sweeps").iterdir()
    ledger, client = Ledger(folder), connect()
    before = check_whole(client, ledger, sync_sweep(ledger))
    for deed in deeds:
        deed(client)
    found = check_whole(client, ledger, sync_sweep(ledger))
    parent = runs(client)[-1].info.run_id
    nested = [run.data.tags.get("mlflow.parentRunId") for run in runs(client)]
    assert nested == [*[parent] * (TRAINED + 1), None]
    assert load_best("digits", alias="smallest")
    assert list(found["aliases"]) == list(before["aliases"])
    # nothing is left over: every model is a version's
    assert sorted(version.model_id for version in found["versions"]) == found["models"]


def test_incomplete_runs_and_models_are_completed(ledger: Ledger) -> None:
    records, facts = ledger.members(), ledger.facts
    writer = SweepWriter(connect())
    parent = writer.start(
        sweep=facts.id,
        dataset="digits",
        data_hash=facts.data_hash,
        params={},
        provenance={"version.ray": "as it was"},
    )
    kept = writer.member(records[0])
    writer.progress(members=1, points=3, hypervolume=0.125, at=1_000)
    done = sync_sweep(ledger)
    client = connect()
    whole = client.get_run(parent)
    assert done.missing == ()
    assert whole.info.status == "FINISHED"
    assert whole.data.tags["version.ray"] == "as it was"
    assert client.get_run(kept).data.tags["arsvd.member"] == records[0].key
    steps = {m.step: m.value for m in client.get_metric_history(parent, "hypervolume")}
    assert steps[1] == 0.125  # what the sweep itself has said stands
    assert set(steps) == {1, 2, 3}
    assert len(runs(client)) == 4


def test_an_interrupted_sweep_is_synced_as_far_as_it_is(ledger: Ledger) -> None:
    ledger.reopen()
    done = sync_sweep(ledger)
    client = connect()
    assert done == Synced(client.tracking_uri, TRAINED + 1, False, ())
    assert runs(client)[-1].info.status == "KILLED"
    assert registered_versions(client, "digits") == []
    said = CliRunner().invoke(main, ["sync", ledger.facts.id])
    assert said.exit_code == 0
    assert "has 3 members" in said.stdout
    assert "has not ended" in said.stdout


def test_without_the_data_set_all_but_the_models_is_there(
    ledger: Ledger, new_config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.write_config(new_config("dataset.name=mnist", "search.trials=3"))
    monkeypatch.setenv("ARSVD_DATA", str(ledger.path / "nothing-here"))
    said = CliRunner().invoke(main, ["sync", ledger.facts.id])
    assert said.exit_code == 1
    assert "lacks 2 models of the front (they need the data set, and " in said.stderr
    assert f"arsvd sync {ledger.facts.id}" in said.stderr
    client = connect()
    assert runs(client)[-1].info.status == "FINISHED"
    assert {file.path for file in client.list_artifacts(runs(client)[-1].info.run_id)} == ARTIFACTS


def test_another_data_set_is_not_used(ledger: Ledger) -> None:
    facts = json.loads((ledger.path / "sweep.json").read_text())
    (ledger.path / "sweep.json").write_text(json.dumps({**facts, "data_hash": "0" * 64}))
    (missed,) = sync_sweep(ledger).missing
    assert missed.what == "2 models of the front"
    assert "is not the one of the sweep" in missed.cause


def test_damaged_files_are_named_and_hold_up_nothing_else(ledger: Ledger) -> None:
    front, records = ledger.front(), ledger.members()
    assert front is not None
    weights = ledger.weights(front.points[0].key)
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    (ledger.path / "members" / f"{records[-1].key}.json").write_text("{")
    done = sync_sweep(ledger)
    lost = [entry for entry in front.points if entry.key == front.points[0].key]
    named = {missed.what: missed.cause for missed in done.missing}
    assert set(named) == {
        f"member {records[-1].key}",
        *(f"the model of {entry.point.params:,} parameters" for entry in lost),
    }
    assert all("is damaged" in cause for cause in named.values())
    assert done.members == TRAINED
    assert len(registered_versions(connect(), "digits")) == POINTS - len(lost)


def test_a_sweep_that_is_being_run_is_left_alone(ledger: Ledger) -> None:
    with hold(ledger):
        said = CliRunner().invoke(main, ["sync", ledger.facts.id])
    assert said.exit_code == 2
    assert "is being run by process" in said.stderr
    with pytest.raises(TrackingError, match="no tracking server answers"):
        sync_sweep(ledger, to="http://127.0.0.1:9")
