"""The same sweep, read back with plain `mlflow` calls, and its models loaded without this project."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import Run
from safetensors.torch import load_file, save_file

import arsvd
from arsvd import evaluate
from arsvd.data import Dataset
from sweeps import load_best
from sweeps.ledger.records import Front

ALIASES = ("best", "smallest", "most-accurate")


@pytest.fixture
def client(sweep: Any) -> MlflowClient:
    return MlflowClient(tracking_uri=sweep.uri)


@pytest.fixture
def runs(client: MlflowClient) -> tuple[Run, list[Run]]:
    """The sweep's run and its members' runs, in the order of the trials."""
    experiment = client.get_experiment_by_name("arsvd-digits")
    found = client.search_runs([experiment.experiment_id])
    parents = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
    (parent,) = parents
    children = [run for run in found if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert len(found) == 1 + len(children)
    return parent, sorted(children, key=lambda run: int(run.info.run_name.split()[1].rstrip(":")))


# --- MLflow, read with plain calls ----------------------------------------------------------------


def test_there_is_one_parent_run_that_says_where_it_comes_from(
    sweep: Any, client: MlflowClient, runs: tuple[Run, list[Run]], digits: Dataset
) -> None:
    parent, children = runs
    assert len(children) == sweep.members
    assert parent.info.status == "FINISHED"
    assert parent.data.params["search.trials"] == str(sweep.members)
    assert parent.data.params["dataset.name"] == "digits"
    assert parent.data.params["training.lr"] == '{"loguniform": [0.001, 0.02]}'
    tags = parent.data.tags
    assert tags["mlflow.source.git.commit"] == sweep.commit
    assert tags["arsvd.git_changed"] == "false"
    assert tags["arsvd.data_hash"] == digits.hash
    assert tags["arsvd.sweep"] == sweep.ledger.facts.id
    for package in ("python", "arsvd", "torch", "ray", "optuna", "mlflow"):
        assert re.match(r"\d+\.\d+", tags[f"version.{package}"])
    assert {item.dataset.name for item in parent.inputs.dataset_inputs} == {
        *("digits train", "digits validation", "digits test")
    }


def history(client: MlflowClient, run: Run, key: str) -> list[tuple[int, float]]:
    found = client.get_metric_history(run.info.run_id, key)
    return sorted((metric.step, metric.value) for metric in found)


def test_the_parent_run_shows_how_the_sweep_advanced(
    sweep: Any, client: MlflowClient, runs: tuple[Run, list[Run]]
) -> None:
    parent, _ = runs
    front = sweep.front
    volumes = history(client, parent, "hypervolume")
    assert [step for step, _ in volumes] == list(range(1, sweep.members + 1))
    values = [value for _, value in volumes]
    assert values == sorted(values)
    assert values[-1] == pytest.approx(front.hypervolume)
    assert parent.data.metrics["final_hypervolume"] == pytest.approx(front.hypervolume)
    assert front.best is not None
    assert front.best.test is not None
    assert parent.data.metrics["best_params"] == front.best.point.params
    assert parent.data.metrics["best_accuracy"] == front.best.point.accuracy
    assert parent.data.metrics["best_test_accuracy"] == front.best.test.accuracy
    assert parent.data.metrics["members"] == sweep.members
    assert parent.data.metrics["fixed_hypervolume"] == front.baselines["fixed"].hypervolume


def test_every_member_is_a_nested_run_with_curves_and_its_front(
    sweep: Any, client: MlflowClient, runs: tuple[Run, list[Run]]
) -> None:
    _, children = runs
    records = sweep.ledger.members()
    assert len(records) == len(children)
    for run, record in zip(children, records, strict=True):
        assert run.info.status == "FINISHED"
        assert run.data.tags["arsvd.member"] == record.key
        assert float(run.data.params["lr"]) == record.config.lr
        assert run.data.params["hidden"] == "-".join(map(str, record.config.hidden))
        for name, curve in record.curves.items():
            assert history(client, run, name) == list(enumerate(curve, start=1))
        # the step of the front is the size, so that the chart in the UI is the front
        front = arsvd.pareto(record.points)
        assert history(client, run, "front_accuracy") == [(p.params, p.accuracy) for p in front]
        assert history(client, run, "front_macs") == [(p.params, p.macs) for p in front]
        assert record.dense is not None
        assert run.data.metrics["dense_accuracy"] == record.dense.accuracy
        assert not [name for name in run.data.metrics if "test" in name]


def test_the_report_is_in_the_artifacts(
    sweep: Any, client: MlflowClient, runs: tuple[Run, list[Run]], tmp_path: Path
) -> None:
    parent, _ = runs
    names = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert names == {"sweep.yaml", "front.json", "front.csv", "baselines.csv", "front.png", "front.html"}
    folder = Path(client.download_artifacts(parent.info.run_id, "", str(tmp_path)))
    assert (folder / "sweep.yaml").read_bytes() == (sweep.ledger.path / "sweep.yaml").read_bytes()
    assert Front.from_dict(json.loads((folder / "front.json").read_text())) == sweep.front
    with (folder / "front.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["params"]) for row in rows] == [entry.point.params for entry in sweep.front.points]
    assert (folder / "front.png").read_bytes().startswith(b"\x89PNG\r\n")
    page = (folder / "front.html").read_text(encoding="utf-8")
    assert "<html" in page.lower()
    assert sweep.ledger.facts.id in page
    # it opens without a network
    assert not re.search(r"""<(script|link|img)\b[^>]*\b(src|href)=["'](https?:)?//""", page)


def test_every_model_of_the_front_is_logged_and_registered(
    sweep: Any, client: MlflowClient, runs: tuple[Run, list[Run]]
) -> None:
    parent, _ = runs
    front = sweep.front
    logged = {m.model_id: m for m in client.search_logged_models([parent.info.experiment_id], max_results=50)}
    versions = sorted(client.search_model_versions("name='arsvd-digits'"), key=lambda v: int(v.version))
    assert len(versions) == len(logged) == len(front.points)
    for version, entry in zip(versions, front.points, strict=True):
        model = logged[version.tags["arsvd.model_id"]]
        assert str(model.status) == "READY"
        assert model.source_run_id == parent.info.run_id
        assert version.tags["params"] == str(entry.point.params)
        figures = {metric.key: metric for metric in model.metrics}
        assert figures["validation_accuracy"].value == entry.point.accuracy
        assert figures["validation_accuracy"].dataset_name == "digits validation"
        assert entry.test is not None
        assert figures["test_accuracy"].value == entry.test.accuracy
        assert figures["test_accuracy"].dataset_name == "digits test"
        assert figures["params"].step == entry.point.params
        files = Path(client.get_model_version_download_uri("arsvd-digits", version.version)[7:])
        assert {"MLmodel", "data/model.pt2", "extra_files/model.safetensors"} <= {
            str(path.relative_to(files)) for path in files.rglob("*")
        }
        small = arsvd.load(files / "extra_files" / "model.safetensors")
        assert sum(p.numel() for p in small.parameters()) == entry.point.params


def test_aliases_name_what_validation_says(sweep: Any, client: MlflowClient) -> None:
    front = sweep.front
    aliases = client.get_registered_model("arsvd-digits").aliases
    assert set(aliases) == set(ALIASES)
    assert front.best is not None
    wanted = {"best": front.best, "smallest": front.points[0], "most-accurate": front.points[-1]}
    for alias, entry in wanted.items():
        version = client.get_model_version_by_alias("arsvd-digits", alias)
        assert version.tags["params"] == str(entry.point.params), alias
        assert float(version.tags["validation_accuracy"]) == entry.point.accuracy


STRANGER = """
import importlib.abc, json, sys
class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("arsvd", "sweeps", "cluster", "mlflow_server", "ray", "optuna"):
            raise ImportError(f"{name} is not here")
sys.meta_path.insert(0, Refuse())
import mlflow, torch
from safetensors.torch import load_file, save_file
images = load_file(sys.argv[1])
answers = {}
for alias in sys.argv[3:]:
    model = mlflow.pytorch.load_model(f"models:/arsvd-digits@{alias}")
    with torch.no_grad():
        for batch, rows in images.items():
            answers[f"{alias} {batch}"] = model(rows).contiguous()
save_file(answers, sys.argv[2])
print(json.dumps([name for name in sys.modules if name.split(".")[0] in ("arsvd", "sweeps")]))
"""


def test_anyone_loads_the_same_models_with_mlflow_alone(sweep: Any, digits: Dataset, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    images = {str(batch): torch.rand(batch, *digits.shape, generator=generator) for batch in (1, 7, 1000)}
    save_file(images, tmp_path / "images")
    done = subprocess.run(
        [sys.executable, "-P", "-c", STRANGER, tmp_path / "images", tmp_path / "answers", *ALIASES],
        cwd=tmp_path,
        env={**os.environ, "MLFLOW_TRACKING_URI": sweep.uri},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1]) == []
    answers = load_file(tmp_path / "answers")
    assert len(answers) == 9
    for alias in ALIASES:
        model = load_best("digits", alias=alias)
        for batch, rows in images.items():
            with torch.no_grad():
                ours = model(rows)
            assert ours.shape == (len(rows), 10)
            torch.testing.assert_close(answers[f"{alias} {batch}"], ours, rtol=0, atol=1e-5)


def test_a_loaded_model_reaches_what_is_registered(sweep: Any, digits: Dataset) -> None:
    front = sweep.front
    assert front.best is not None
    assert front.best.test is not None
    best = load_best("digits")
    for split, wanted in ((digits.validation, front.best.point), (digits.test, front.best.test)):
        reached = evaluate(best, split.images.float() / 255, split.labels)
        assert reached.accuracy == pytest.approx(wanted.accuracy, abs=1.5 / len(split))
    assert sum(p.numel() for p in best.parameters()) == front.best.point.params
