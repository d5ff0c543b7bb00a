"""Backup and restore on PostgreSQL, with the commands that docs/server.md gives."""

import os
import re
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

pytestmark = pytest.mark.slow
PAGE = Path(__file__).parents[2] / "docs" / "server.md"


def run_block(name: str, cluster, **variables: str) -> None:
    (block,) = re.findall(rf"^```bash {name}\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    environment = cluster.environment() | variables
    environment["PATH"] = f"{cluster.programs}:{os.environ['PATH']}"
    done = subprocess.run(["bash", "-c", block], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_everything_is_there_after_a_restore(
    command: Callable, new_postgres: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = new_postgres()
    server = command("--auth", data=tmp_path / "old", ARSVD_DB=first.create("mlflow"))
    name, password = server.admin
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", name)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)
    client = MlflowClient(server.address)
    experiment = client.create_experiment("arsvd-digits")
    run = client.create_run(experiment, run_name="sweep digits-1").info.run_id
    client.log_metric(run, "validation_accuracy", 0.97, step=1234)
    (tmp_path / "model.bin").write_bytes(b"weights")
    client.log_artifact(run, str(tmp_path / "model.bin"))
    (tmp_path / "lock").write_text("a file of the run")
    client.log_artifact(run, str(tmp_path / "lock"))
    client.create_registered_model("arsvd-digits", description="load_best")
    source = f"{client.get_run(run).info.artifact_uri}/model.bin"
    client.create_model_version("arsvd-digits", source, run, tags={"params": "1234"})
    client.set_registered_model_alias("arsvd-digits", "best", "1")
    account = '{"username": "ada", "password": "a password for ada"}'
    assert server.ask("/api/2.0/mlflow/users/create", "POST", account, user=server.admin)[0] == 200

    backup = tmp_path / "backup"
    run_block("backup", first, BACKUP=str(backup), DATA=str(server.data))  # while the server runs
    assert {path.stat().st_mode & 0o777 for path in backup.iterdir()} == {0o600}
    with tarfile.open(backup / "data.tar") as archive:
        names = set(archive.getnames())
    assert "./admin-password" in names
    assert {"./lock", "./server.log"} & names == set()
    client.log_metric(run, "too_late", 1.0)
    server.end()
    first.stop("immediate")

    second = new_postgres()
    run_block("restore", second, BACKUP=str(backup), DATA=str(tmp_path / "new"))
    restored = command("--auth", data=tmp_path / "new", ARSVD_DB=second.uri("mlflow"))
    assert restored.err.read_text() == ""  # so the old password holds
    assert restored.admin == (name, password)
    client = MlflowClient(restored.address)
    found = client.get_run(run)
    assert found.info.run_name == "sweep digits-1"
    assert found.data.metrics == {"validation_accuracy": 0.97}
    version = client.get_model_version_by_alias("arsvd-digits", "best")
    assert (version.run_id, version.tags) == (run, {"params": "1234"})
    (tmp_path / "again").mkdir()
    path = client.download_artifacts(run, "model.bin", str(tmp_path / "again"))
    assert Path(path).read_bytes() == b"weights"
    path = client.download_artifacts(run, "lock", str(tmp_path / "again"))
    assert Path(path).read_text() == "a file of the run"
    asked = ("/api/2.0/mlflow/experiments/search", "POST", '{"max_results": 5}')
    assert restored.ask(*asked)[0] == 401
    status, text = restored.ask(*asked, user=("ada", "a password for ada"))
    assert status == 200
    assert "arsvd-digits" in text
