"""One real sweep through the console script: Ray, Optuna and MLflow, read back with plain `mlflow` calls."""

import csv
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from click.testing import CliRunner
from mlflow import MlflowClient
from mlflow.entities import Run
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

import arsvd
from arsvd import evaluate
from arsvd.data import Dataset
from sweeps import load_best
from sweeps.cli import main
from sweeps.finish import Models
from sweeps.fronts import sweep_front
from sweeps.ledger import Ledger, file_sha256, sweep_ids
from sweeps.records import FINISHED, Front

MEMBERS = 6
EPOCHS = 4
OVERRIDES = (
    f"search.trials={MEMBERS}",
    f"training.epochs={EPOCHS}",
    "model.hidden={choice: [[24], [32], [24, 16]]}",
    "compression.finetune_epochs=1",
    "compression.energy.points=16",
    "search.inject=2",
    "select.max_drop=0.02",
)
ALIASES = ("best", "smallest", "most-accurate")


@dataclass(frozen=True)
class Sweep:
    """What the command left."""

    folder: Path
    done: subprocess.CompletedProcess[str]
    commit: str

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.home / 'mlflow.db'}"

    @property
    def ledger(self) -> Ledger:
        (name,) = sweep_ids(self.home)
        return Ledger.open(self.home, name)

    @property
    def front(self) -> Front:
        front = self.ledger.front()
        assert front is not None
        return front


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    folder = tmp_path_factory.mktemp("sweep")
    work = folder / "work"
    work.mkdir()
    git = ["git", "-C", str(work), "-c", "user.name=T", "-c", "user.email=t@example.org"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "Begin"], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "MLFLOW_", "TUNE_"))}
    environment["ARSVD_HOME"] = str(folder / "home")
    done = subprocess.run(
        [str(Path(sys.executable).with_name("arsvd")), "sweep", "digits", *OVERRIDES],
        cwd=work,
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    assert [path.name for path in work.iterdir()] == [".git"]  # everything is under ARSVD_HOME
    return Sweep(folder, done, commit.strip())


@pytest.fixture(autouse=True)
def _here(sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = dict(os.environ)
    monkeypatch.setenv("ARSVD_HOME", str(sweep.home))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def client(sweep: Sweep) -> MlflowClient:
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


def invoke(*arguments: str) -> str:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


# --- what the command printed ---------------------------------------------------------------------


def test_the_command_prints_the_front_and_what_to_do_next(sweep: Sweep) -> None:
    out, ledger = sweep.done.stdout, sweep.ledger
    assert out.startswith(f"front of {ledger.facts.id}\nreference 17,226 parameters; best dense member ")
    for entry in sweep.front.points:
        assert re.search(rf"^\*? +{entry.point.params:,} ", out, re.MULTILINE), entry
    assert out.count("\n*") == 1
    assert "fixed rank" in out
    assert "weight energy" in out
    for alias in ALIASES:
        assert re.search(rf"^{alias}: +arsvd-digits version \d+: [\d,]+ parameters", out, re.MULTILINE)
    report = re.search(r"^report +(.*)$", out, re.MULTILINE)
    assert report is not None
    assert Path(report[1]).is_file()
    assert "arsvd ui" in out
    assert "load_best(" in out


def test_the_command_tells_its_progress_on_stderr(sweep: Sweep) -> None:
    lines = [line for line in sweep.done.stderr.splitlines() if line.startswith("members ")]
    assert len(lines) == MEMBERS
    assert lines[0].startswith(f"members 1 of {MEMBERS} | points ")
    assert lines[-1].startswith(f"members {MEMBERS} of {MEMBERS} | points ")
    # nothing but our own lines: no warning, no table of Tune, no traceback
    others = [line for line in sweep.done.stderr.splitlines() if not line.startswith("members ")]
    assert [line.split()[0] for line in others] == ["sweep", "measuring", "logging"]


# --- the ledger -----------------------------------------------------------------------------------


def test_the_ledger_holds_every_member_whole(sweep: Sweep, digits: Dataset) -> None:
    ledger = sweep.ledger
    records = ledger.members()
    assert len(records) == MEMBERS
    assert len({record.key for record in records}) == MEMBERS
    assert ledger.facts.data_hash == digits.hash
    for record in records:
        assert record.status == FINISHED
        assert record.key == record.config.key(digits.hash)
        assert file_sha256(ledger.weights(record.key)) == record.weights_sha256
        assert len(record.curves["validation_accuracy"]) == EPOCHS
        assert record.config.finetune_epochs == 1
    assert {path.name for path in ledger.path.iterdir()} == {
        *("sweep.yaml", "sweep.json", "study.journal", "front.json", "members", "report")
    }
    assert len(list((ledger.path / "members").iterdir())) == 2 * MEMBERS


def test_the_study_was_told_every_member_and_further_points(sweep: Sweep) -> None:
    ledger = sweep.ledger
    storage = JournalStorage(JournalFileBackend(str(ledger.journal)))
    trials = optuna.load_study(study_name=ledger.facts.id, storage=storage).trials
    injected = [trial for trial in trials if "arsvd.injected_from" in trial.user_attrs]
    asked = {trial.number: trial for trial in trials if trial not in injected}
    assert all(trial.state == optuna.trial.TrialState.COMPLETE for trial in trials)
    assert set(asked) == {record.number for record in ledger.members()}
    for record in ledger.members():
        assert record.asked is not None
        assert asked[record.number].values == [record.asked.accuracy, record.asked.params]
    assert 1 <= len(injected) <= 2 * MEMBERS


def test_the_front_follows_from_the_ledger_alone(sweep: Sweep) -> None:
    ledger, front = sweep.ledger, sweep.front
    facts = ledger.facts
    again = sweep_front(
        ledger.members(), facts.reference, ledger.config.select.max_drop, facts.validation_images
    )
    assert [(e.key, e.number, e.point) for e in again.points] == [
        (e.key, e.number, e.point) for e in front.points
    ]
    assert again.hypervolume == front.hypervolume
    assert again.baselines == front.baselines
    assert again.best is not None
    assert front.best is not None
    assert again.best.point == front.best.point
    assert len(front.points) >= 5


def test_test_figures_are_those_of_the_final_front_and_of_nothing_else(sweep: Sweep, digits: Dataset) -> None:
    ledger, front = sweep.ledger, sweep.front
    models = Models(ledger, digits, ledger.members())
    images = digits.test.images.float() / 255
    for entry in front.points:
        assert entry.test is not None
        reached = evaluate(models.build(entry), images, digits.test.labels)
        assert reached.accuracy == pytest.approx(entry.test.accuracy, abs=1.5 / len(digits.test))
    for baseline in front.baselines.values():
        assert baseline.points
        assert all(entry.test is None for entry in baseline.points)
    for path in (ledger.path / "members").glob("*.json"):
        assert "test" not in path.read_text()


# --- MLflow, read with plain calls ----------------------------------------------------------------


def test_there_is_one_parent_run_that_says_where_it_comes_from(
    sweep: Sweep, client: MlflowClient, runs: tuple[Run, list[Run]], digits: Dataset
) -> None:
    parent, children = runs
    assert len(children) == MEMBERS
    assert parent.info.status == "FINISHED"
    assert parent.data.params["search.trials"] == str(MEMBERS)
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
    sweep: Sweep, client: MlflowClient, runs: tuple[Run, list[Run]]
) -> None:
    parent, _ = runs
    front = sweep.front
    volumes = history(client, parent, "hypervolume")
    assert [step for step, _ in volumes] == list(range(1, MEMBERS + 1))
    values = [value for _, value in volumes]
    assert values == sorted(values)
    assert values[-1] == pytest.approx(front.hypervolume)
    assert parent.data.metrics["final_hypervolume"] == pytest.approx(front.hypervolume)
    assert front.best is not None
    assert front.best.test is not None
    assert parent.data.metrics["best_params"] == front.best.point.params
    assert parent.data.metrics["best_accuracy"] == front.best.point.accuracy
    assert parent.data.metrics["best_test_accuracy"] == front.best.test.accuracy
    assert parent.data.metrics["members"] == MEMBERS
    assert parent.data.metrics["fixed_hypervolume"] == front.baselines["fixed"].hypervolume


def test_every_member_is_a_nested_run_with_curves_and_its_front(
    sweep: Sweep, client: MlflowClient, runs: tuple[Run, list[Run]]
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
    sweep: Sweep, client: MlflowClient, runs: tuple[Run, list[Run]], tmp_path: Path
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
    assert not re.search(r"""(src|href)=["'](https?:)?//""", page)  # it opens without a network


def test_every_model_of_the_front_is_logged_and_registered(
    sweep: Sweep, client: MlflowClient, runs: tuple[Run, list[Run]]
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


def test_aliases_name_what_validation_says(sweep: Sweep, client: MlflowClient) -> None:
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


def test_anyone_loads_the_same_models_with_mlflow_alone(
    sweep: Sweep, digits: Dataset, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

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


def test_a_loaded_model_reaches_what_is_registered(sweep: Sweep, digits: Dataset) -> None:
    front = sweep.front
    assert front.best is not None
    assert front.best.test is not None
    best = load_best("digits")
    for split, wanted in ((digits.validation, front.best.point), (digits.test, front.best.test)):
        reached = evaluate(best, split.images.float() / 255, split.labels)
        assert reached.accuracy == pytest.approx(wanted.accuracy, abs=1.5 / len(split))
    assert sum(p.numel() for p in best.parameters()) == front.best.point.params


# --- the commands that read -----------------------------------------------------------------------


def test_list_and_show(sweep: Sweep) -> None:
    name, front = sweep.ledger.facts.id, sweep.front
    (row,) = json.loads(invoke("list", "--json"))
    assert (row["sweep"], row["state"]) == (name, "finished")
    assert (row["members"], row["trials"], row["failed"]) == (MEMBERS, MEMBERS, 0)
    assert row["hypervolume"] == front.hypervolume
    text = invoke("list")
    assert name in text
    assert f"{MEMBERS}/{MEMBERS}" in text
    shown = json.loads(invoke("show", "digits-2", "--json"))  # a beginning of the id
    assert Front.from_dict(shown["front"]) == front
    table = invoke("show", name)
    assert table in sweep.done.stdout  # the sweep printed the same


def test_best_is_found_by_drop_and_by_size_and_exported(
    sweep: Sweep, tmp_path: Path, digits: Dataset
) -> None:
    front = sweep.front
    best = json.loads(invoke("best", "digits", "--json"))
    assert front.best is not None
    assert best["params"] == front.best.point.params
    # the dense members are on the front or beaten by it, so that some point loses nothing
    strict = json.loads(invoke("best", "digits", "--max-drop", "0.0000001", "--json"))
    assert strict["validation_accuracy"] >= front.dense_accuracy
    assert strict["params"] >= best["params"]
    limit = front.points[len(front.points) // 2].point.params
    target = tmp_path / "small.safetensors"
    sized = json.loads(
        invoke("best", "digits", "--max-params", str(limit), "--export", str(target), "--json")
    )
    assert sized["params"] == limit
    model = arsvd.load(target)
    assert sum(p.numel() for p in model.parameters()) == limit
    reached = evaluate(model, digits.validation.images.float() / 255, digits.validation.labels)
    assert reached.accuracy == pytest.approx(sized["validation_accuracy"], abs=1.5 / len(digits.validation))
    text = invoke("best", "digits")
    assert f'mlflow.pytorch.load_model("{best["uri"]}")' in text
    none = CliRunner().invoke(main, ["best", "digits", "--max-params", "1"])
    assert none.exit_code == 2
    assert re.fullmatch(r"arsvd: no model has at most 1 parameters; the closest, .*\n", none.stderr)


def test_what_is_filed_is_plain_json(sweep: Sweep) -> None:
    checked = 0
    for path in sweep.ledger.path.rglob("*.json"):
        values: Any = json.loads(path.read_text(), parse_constant=pytest.fail)
        assert values["version"] == 1
        checked += 1
    assert checked == MEMBERS + 2
    assert math.isfinite(sweep.front.hypervolume)
