import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest
import torch
from mlflow import MlflowClient
from torch import nn

import arsvd
from sweeps.ledger.records import Front
from sweeps.tracking import (
    ModelData,
    NoModelError,
    SweepWriter,
    TrackingError,
    connect,
    find_best,
    load_best,
    log_front,
    set_aliases,
)
from sweeps.tracking import exporting as exporting_room
from sweeps.tracking.registry import registered_versions

BATCHES = (1, 7, 1000)
START = {"sweep": "digits-1", "dataset": "digits", "params": {}, "reference_params": 1_274}

# Loads as a plain MLflow user does, in a process that cannot import this project.
PLAIN_USER = """
import importlib.abc, json, sys
class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("arsvd", "sweeps"):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
import mlflow, torch
model = mlflow.pytorch.load_model("models:/arsvd-digits@best")
with torch.no_grad():
    for batch in (1, 7, 1000):
        images = torch.linspace(0, 1, batch * 64).reshape(batch, 1, 8, 8)
        print(json.dumps(model(images).tolist()))
"""


def images(batch: int) -> torch.Tensor:
    return torch.linspace(0, 1, batch * 64).reshape(batch, 1, 8, 8)


@pytest.fixture
def run_id(client: MlflowClient, data: ModelData) -> str:
    return SweepWriter(client).start(data_hash=data.hash, **START)


@pytest.fixture(scope="module")
def _shared_home(
    tmp_path_factory, _empty_store: bytes, front: Front, models, data: ModelData, make_config
) -> Path:
    home = tmp_path_factory.mktemp("shared")
    (home / "mlflow.db").write_bytes(_empty_store)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ARSVD_HOME", str(home))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        client = connect()
        run_id = SweepWriter(client).start(data_hash=data.hash, **START)
        configs = {"key2": make_config(lr=0.125)}
        logged = log_front(client, run_id, front, lambda entry: models[entry.key], data, configs)
    assert [(entry.version.version, entry.reused) for entry in logged] == [(1, False), (2, False), (3, False)]
    return home


@pytest.fixture
def logged(_shared_home: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """A store with a logged front, for tests that change nothing but aliases, which they set themselves."""
    monkeypatch.setenv("ARSVD_HOME", str(_shared_home))
    return connect()


@pytest.fixture
def own(client: MlflowClient, run_id: str, front: Front, models, data: ModelData) -> MlflowClient:
    """The same in a store of the test's own, with the first two points of the front."""
    log_front(client, run_id, replace(front, points=front.points[:2]), lambda entry: models[entry.key], data)
    return client


@pytest.fixture
def _global_server(logged: MlflowClient) -> Iterator[None]:
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(logged.tracking_uri)
    yield
    mlflow.set_tracking_uri(before)


def test_every_model_of_the_front_is_logged_and_registered(
    logged: MlflowClient, front: Front, data: ModelData
) -> None:
    run_id = SweepWriter(logged).start(data_hash=data.hash, **START)
    versions = registered_versions(logged, "digits")
    assert [version.params for version in versions] == [entry.point.params for entry in front.points]
    second, entry = versions[1], front.points[1]
    assert second.data_hash == data.hash
    assert second.member == "key2"
    assert second.ranks == entry.point.ranks
    assert second.validation_accuracy == entry.point.accuracy
    assert second.test_accuracy == entry.test.accuracy
    assert second.dense_accuracy == 0.96

    model = logged.get_logged_model(second.model_id)
    assert model.name == f"front-{entry.point.params:06d}-params"
    assert model.status.value == "READY"
    assert model.source_run_id == run_id
    assert model.params["ranks"] == "2-2-dense"
    assert model.params["lr"] == "0.125"
    assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": "arsvd-digits", "version": 2}]
    measured = {metric.key: (metric.value, metric.dataset_name) for metric in model.metrics}
    assert measured["validation_accuracy"] == (0.93, "digits validation")
    assert measured["test_accuracy"] == (pytest.approx(0.91), "digits test")
    assert measured["test_macro_f1"] == (pytest.approx(0.9), "digits test")
    assert measured["params"] == (entry.point.params, None)
    assert measured["ratio"] == (1_274 / entry.point.params, None)
    assert measured["latency_batch1_us"] == measured["latency_batch256_us"] == (20.0, None)
    assert measured["speedup_batch256"] == (4.0, None)

    run = logged.get_run(run_id)
    assert {output.model_id for output in run.outputs.model_outputs} == {v.model_id for v in versions}
    history = logged.get_metric_history(run_id, "validation_accuracy")
    assert [(metric.step, metric.value) for metric in history] == [
        (entry.point.params, entry.point.accuracy) for entry in front.points
    ]


@pytest.mark.usefixtures("_global_server")
def test_a_logged_model_says_what_it_takes_and_holds_no_local_paths_and_no_data(
    logged: MlflowClient, data: ModelData
) -> None:
    folder = Path(mlflow.artifacts.download_artifacts("models:/arsvd-digits/2"))
    info = mlflow.models.Model.load(str(folder))
    (given,), (returned,) = info.signature.inputs.inputs, info.signature.outputs.inputs
    assert (given.shape, given.type.name) == ((-1, 1, 8, 8), "float32")
    assert (returned.shape, returned.type.name) == ((-1, 10), "float32")
    example = info.load_input_example(str(folder))
    assert example.shape == (3, 1, 8, 8)
    assert 0.0 <= example.min() < example.max() <= 1.0
    assert (folder / "requirements.txt").read_text().split("\n")[0] == f"mlflow=={mlflow.__version__}"
    program = (folder / "data" / "model.pt2").read_bytes()
    assert exporting_room.__file__.encode() not in program
    assert b"site-packages" not in program
    shown = torch.tensor(example)
    assert not any(torch.equal(one, image / 255) for one in shown for image in data.examples)
    for image in data.examples:
        assert (image / 255).numpy().tobytes()[-64:] not in program
    assert torch.equal(shown[0], shown[1])
    weights = arsvd.load(folder / "extra_files" / "model.safetensors")
    served = mlflow.pyfunc.load_model("models:/arsvd-digits/2")
    with torch.no_grad():
        expected = weights.eval()(images(7)).numpy()
    assert abs(served.predict(images(7).numpy()) - expected).max() < 1e-5


def test_anyone_with_mlflow_loads_the_same_model(
    logged: MlflowClient, front: Front, models: dict[str, nn.Module], tmp_path: Path
) -> None:
    chosen = set_aliases(logged, "digits", max_drop=0.03)
    assert {alias: version.version for alias, version in chosen.items()} == {
        "best": 2,
        "smallest": 1,
        "most-accurate": 3,
    }
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {
        "MLFLOW_TRACKING_URI": logged.tracking_uri,
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    done = subprocess.run(
        [sys.executable, "-I", "-c", PLAIN_USER],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.strip().split("\n")
    best = load_best("digits", max_drop=0.03)
    assert not best.training
    with torch.no_grad():
        for batch, line in zip(BATCHES, lines, strict=True):
            logits = best(images(batch))
            torch.testing.assert_close(logits, models["key2"](images(batch)), rtol=0, atol=0)
            torch.testing.assert_close(torch.tensor(json.loads(line)), logits, rtol=0, atol=1e-5)


def test_a_front_logged_again_is_there_once(
    own: MlflowClient, run_id: str, front: Front, models: dict[str, nn.Module], data: ModelData
) -> None:
    built = []

    def build(entry) -> nn.Module:  # type: ignore[no-untyped-def]
        built.append(entry.key)
        return models[entry.key]

    short = replace(front, points=front.points[:2])
    assert [entry.reused for entry in log_front(own, run_id, short, build, data)] == [True, True]
    # the extended sweep found one more point: of the same member and ranks, after recovery
    recovered = replace(
        front.points[0], point=replace(front.points[0].point, family="recovered", accuracy=0.8)
    )
    assured = [replace(entry, assured=0.125) for entry in short.points]
    longer = replace(front, points=(recovered, *assured), dense_accuracy=0.97, confidence=0.95)
    assert [entry.reused for entry in log_front(own, run_id, longer, build, data)] == [False, True, True]
    assert built == ["key1"]
    versions = registered_versions(own, "digits")
    assert [version.dense_accuracy for version in versions] == [0.97] * 3
    # what `max_drop` is held against follows the confidence that the sweep went on with
    assert [version.assured_accuracy for version in versions] == [0.125, 0.125, recovered.counted]
    assert len(own.get_run(run_id).outputs.model_outputs) == 3


@pytest.mark.parametrize("at", ["log_model_artifacts", "finalize_logged_model", "create_model_version"])
def test_a_half_written_model_is_replaced(
    at: str,
    client: MlflowClient,
    run_id: str,
    front: Front,
    models: dict[str, nn.Module],
    data: ModelData,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    short = replace(front, points=front.points[:1], best=None)

    def lost(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, at, lost)
        with pytest.raises(KeyboardInterrupt):
            log_front(client, run_id, short, lambda entry: models[entry.key], data)
    experiment = client.get_run(run_id).info.experiment_id
    (orphan,) = client.search_logged_models([experiment])
    (entry,) = log_front(client, run_id, short, lambda entry: models[entry.key], data)
    (model,) = client.search_logged_models([experiment])
    assert model.model_id == entry.version.model_id != orphan.model_id
    assert len(registered_versions(client, "digits")) == 1
    run = client.get_run(run_id)
    assert [output.model_id for output in run.outputs.model_outputs] == [model.model_id]
    assert all(len(client.get_metric_history(run_id, key)) == 1 for key in run.data.metrics)


def test_aliases_hold_though_another_sweep_registers_in_between(
    own: MlflowClient, run_id: str, front: Front, models, data: ModelData, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = MlflowClient.set_registered_model_alias
    pointed = []

    def other_sweep_first(client: MlflowClient, *arguments: str) -> None:
        if not pointed:
            pointed.append(arguments)
            log_front(own, run_id, front, lambda entry: models[entry.key], data)
        point(client, *arguments)

    monkeypatch.setattr(MlflowClient, "set_registered_model_alias", other_sweep_first)
    set_aliases(own, "digits", max_drop=0.01)
    assert pointed
    assert find_best("digits", alias="most-accurate").version == 3
    assert find_best("digits").version == 3


def test_load_best_by_each_choice(logged: MlflowClient) -> None:
    set_aliases(logged, "digits", max_drop=0.02)
    largest = find_best("digits", alias="most-accurate")
    assert find_best("digits") == find_best("digits", alias="best") == largest
    assert find_best("digits", alias="smallest").version == 1
    assert find_best("digits", max_drop=0.5).version == 1
    assert find_best("digits", max_params=largest.params - 1).version == 2
    assert find_best("digits").uri == "models:/arsvd-digits/3"
    assert json.loads(json.dumps(largest.to_dict()))["params"] == largest.params
    model = load_best("digits", max_params=largest.params, tracking_uri=logged.tracking_uri)
    assert sum(tensor.numel() for tensor in model.parameters()) == largest.params


def test_load_best_that_finds_nothing(logged: MlflowClient) -> None:
    for alias in logged.get_registered_model("arsvd-digits").aliases:
        logged.delete_registered_model_alias("arsvd-digits", alias)
    for request, says in (
        ({}, "no alias 'best'; it has none"),
        ({"max_drop": 0.001}, "the closest, models:/arsvd-digits/3, has 0.9500"),
        ({"max_params": 10}, "the closest, models:/arsvd-digits/1, has"),
    ):
        with pytest.raises(NoModelError, match=says):
            load_best("digits", **request)
    for request in ({}, {"max_drop": 0.1}):
        with pytest.raises(NoModelError, match="data set 'mnist'; there are models of: digits"):
            load_best("mnist", **request)
    with pytest.raises(ValueError, match=r"give only one of .* got max_drop and alias"):
        load_best("digits", max_drop=0.1, alias="best")
    with pytest.raises(ValueError, match="max_drop must be a share"):
        load_best("mnist", max_drop=-1)


def test_best_is_withdrawn_where_nothing_keeps_its_promise(logged: MlflowClient) -> None:
    set_aliases(logged, "digits", max_drop=0.02)
    assert find_best("digits").version == 3
    assert "best" not in set_aliases(logged, "digits", max_drop=0.001)
    with pytest.raises(NoModelError, match="no alias 'best'; it has most-accurate, smallest"):
        find_best("digits")


def test_versions_of_others_are_left_alone(own: MlflowClient) -> None:
    own.create_model_version("arsvd-digits", "file:///elsewhere", tags={"owner": "somebody"})
    own.set_registered_model_alias("arsvd-digits", "theirs", "3")
    assert len(registered_versions(own, "digits")) == 2
    assert find_best("digits", max_drop=0.5).version == 1
    with pytest.raises(ValueError, match=r"version 3 of 'arsvd-digits' has no tag 'arsvd.sweep'"):
        load_best("digits", alias="theirs")


def test_a_damaged_file_is_not_loaded(own: MlflowClient) -> None:
    folder = Path(own.get_model_version_download_uri("arsvd-digits", "1").removeprefix("file://"))
    weights = folder / "extra_files" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    smallest = {"max_drop": 0.5}
    with pytest.raises(ValueError, match="models:/arsvd-digits/1 are not those that were registered"):
        load_best("digits", **smallest)
    gone = r"models:/arsvd-digits/1 has no weights in file://\S+, where files were deleted or moved"
    weights.unlink()
    with pytest.raises(TrackingError, match=gone):
        load_best("digits", **smallest)
    shutil.rmtree(folder)
    with pytest.raises(TrackingError, match=gone):
        load_best("digits", **smallest)


def test_loading_imports_no_service_but_mlflow(logged: MlflowClient) -> None:
    code = (
        "import sys; from sweeps.tracking import load_best; load_best('digits', max_drop=0.5);"
        "print([name for name in ('ray', 'optuna', 'sklearn') if name in sys.modules]);"
        "import sweeps.report.table;"  # what `arsvd show` needs
        "print([name for name in ('ray', 'matplotlib', 'plotly') if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["[]", "[]"]
