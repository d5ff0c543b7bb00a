"""The same promises against a real tracking server, whose artifacts travel through it."""

import hashlib
from pathlib import Path

import mlflow
import pytest
import torch
from mlflow import MlflowClient
from torch import nn

from sweeps.ledger.records import Front
from sweeps.tracking import (
    ModelData,
    SweepWriter,
    TrackingError,
    connect,
    find_best,
    load_best,
    log_front,
    set_aliases,
)
from sweeps.tracking.registry import registered_versions


def test_a_whole_sweep_is_stored(
    server: str,
    front: Front,
    models: dict[str, nn.Module],
    data: ModelData,
    make_record,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    report = tmp_path / "report.html"
    report.write_text("<p>front</p>")
    for _ in range(2):  # the second time nothing may be added
        client = connect()
        assert client.tracking_uri == server
        writer = SweepWriter(client)
        writer.start(sweep="digits-1", dataset="digits", data_hash=data.hash, params={"search.trials": 2})
        writer.progress(members=1, points=3, hypervolume=0.5, best=front.points[0])
        finished = writer.member(make_record(1))
        writer.member(
            make_record(2, status="failed", cause="out of memory", dense=None, points=(), asked=None)
        )
        log_front(client, writer.run_id, front, lambda entry: models[entry.key], data)
        set_aliases(client, "digits", max_drop=0.03)
        writer.finish("FINISHED", [report], front)

    plain = MlflowClient(server)
    (experiment,) = plain.search_experiments(filter_string="name = 'arsvd-digits'")
    runs = plain.search_runs([experiment.experiment_id])
    assert sorted((run.info.run_name, run.info.status) for run in runs) == [
        ("member 1: 16-8", "FINISHED"),
        ("member 2: 16-8", "FAILED"),
        ("sweep digits-1", "FINISHED"),
    ]
    history = plain.get_metric_history(finished, "front_accuracy")
    assert [(metric.step, metric.value) for metric in history] == [(500, 0.8), (1000, 0.9)]
    assert len(plain.search_logged_models([experiment.experiment_id])) == 3
    versions = registered_versions(plain, "digits")
    assert [version.version for version in versions] == [1, 2, 3]
    measured = {m.key: m.dataset_name for m in plain.get_logged_model(versions[1].model_id).metrics}
    assert measured["test_accuracy"] == "digits test"
    assert "load_best" in plain.get_registered_model("arsvd-digits").description
    assert [file.path for file in plain.list_artifacts(writer.run_id)] == ["report.html"]

    images = torch.rand(7, 1, 8, 8)
    best, version = load_best("digits"), find_best("digits")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(server)
    try:
        plainly = mlflow.pytorch.load_model("models:/arsvd-digits@best")
        weights = mlflow.artifacts.download_artifacts(f"{version.uri}/extra_files/model.safetensors")
    finally:
        mlflow.set_tracking_uri(before)
    assert hashlib.sha256(Path(weights).read_bytes()).hexdigest() == version.sha256
    with torch.no_grad():
        torch.testing.assert_close(best(images), models["key2"](images), rtol=0, atol=0)
        torch.testing.assert_close(plainly(images), best(images), rtol=0, atol=1e-5)

    (weights,) = tmp_path_factory.getbasetemp().rglob(f"{version.model_id}/**/model.safetensors")
    weights.unlink()
    with pytest.raises(TrackingError, match=f"{version.uri} has no weights in .*, where files were deleted"):
        load_best("digits", tracking_uri=server)


def test_errors_name_the_server_without_its_password(server: str) -> None:
    client = connect(server.replace("//", "//bob:secret@"))
    with pytest.raises(TrackingError, match=server) as caught:
        log_front(client, "0" * 32, None, None, None)  # type: ignore[arg-type]
    assert "not found" in str(caught.value)
    assert "secret" not in str(caught.value)
