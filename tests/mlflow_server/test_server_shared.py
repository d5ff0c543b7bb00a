"""A shared server: PostgreSQL, authentication, an address that others reach."""

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import pytest
import requests
import torch
from mlflow import MlflowClient
from mlflow.server import get_app_client

from sweeps import load_best
from sweeps.tracking import TrackingError

pytestmark = pytest.mark.slow

SEARCH = "/api/2.0/mlflow/experiments/search"
PASSWORD_WITH_ESCAPES = "p@ss/%w:rd"  # as an address needs it: p%40ss%2F%25w%3Ard


@pytest.fixture(scope="module")
def database(postgres) -> str:
    """A database with an owner of its own, whose password needs escapes."""
    postgres.run(
        "psql", "-d", "postgres", "-c", f"create role keeper login password '{PASSWORD_WITH_ESCAPES}'"
    )
    postgres.run("createdb", "-O", "keeper", "shared")
    return f"postgresql://keeper:p%40ss%2F%25w%3Ard@127.0.0.1:{postgres.port}/shared"


@pytest.fixture(scope="module")
def server(command: Callable, database: str):
    return command("--host", "0.0.0.0", "--allow-host", "mlflow.example", ARSVD_DB=database)


@pytest.fixture
def as_admin(server, monkeypatch: pytest.MonkeyPatch) -> Iterator[MlflowClient]:
    name, password = server.admin
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", name)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)
    return MlflowClient(server.address)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("POST", SEARCH),
        ("POST", "/ajax-api/2.0/mlflow/experiments/search"),
        ("POST", "/api/2.0/mlflow/runs/create"),
        ("POST", "/api/2.0/mlflow/registered-models/create"),
        ("GET", "/api/2.0/mlflow-artifacts/artifacts?path="),
        ("GET", "/api/2.0/mlflow-artifacts/artifacts/0/x/artifacts/f"),
        ("PUT", "/api/2.0/mlflow-artifacts/artifacts/0/x/artifacts/f"),
        ("GET", "/get-artifact?run_uuid=0&path=f"),
        ("GET", "/model-versions/get-artifact?name=a&version=1&path=f"),
        ("POST", "/graphql"),
        ("POST", "/v1/traces"),
        ("POST", "/api/2.0/mlflow/users/create"),
        ("GET", "/signup"),
    ],
)
def test_the_anonymous_are_refused(method: str, path: str, server) -> None:
    body = "{}" if method in ("POST", "PUT") else None
    assert server.ask(path, method, body)[0] == 401
    assert server.ask(path, method, body, user=("admin", "wrong password"))[0] == 401


def test_names_and_origins_are_checked(server) -> None:
    port = server.address.rpartition(":")[2]
    asked = {"path": SEARCH, "method": "POST", "body": '{"max_results": 1}', "user": server.admin}
    for host in ("evil.example", f"evil.example:{port}", f"192.168.evil.example:{port}", "0.0.0.0"):
        assert server.ask(**asked, Host=host)[0] == 403, host
    for host in ("mlflow.example", f"mlflow.example:{port}", f"localhost:{port}"):
        assert server.ask(**asked, Host=host)[0] == 200, host
    elsewhere = ("http://127.0.0.1:8080", "http://localhost:8888", "http://localhost", "null")
    for origin in ("https://evil.example", f"http://evil.example:{port}", *elsewhere):
        assert server.ask(**asked, Origin=origin)[0] == 403, origin
    for origin in ("https://mlflow.example", f"http://mlflow.example:{port}"):
        assert server.ask(**asked, Origin=origin)[0] == 200, origin


def test_the_administrator_writes_and_a_reader_reads(
    server, as_admin: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = as_admin.create_experiment("arsvd-shared")
    run = as_admin.create_run(experiment, run_name="sweep").info.run_id
    (tmp_path / "front.html").write_text("the front")
    as_admin.log_artifact(run, str(tmp_path / "front.html"))
    assert as_admin.get_run(run).info.artifact_uri.startswith("mlflow-artifacts:/")
    (kept,) = server.data.glob("artifacts/**/front.html")
    assert kept.read_text() == "the front"

    account = {"username": "reader", "password": "reads and loads"}
    created = server.ask("/api/2.0/mlflow/users/create", "POST", json.dumps(account), user=server.admin)
    assert created[0] == 200, created
    reader = ("reader", "reads and loads")
    assert server.ask("/api/2.0/mlflow/users/create", "POST", json.dumps(account), user=reader)[0] == 403
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", reader[0])
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", reader[1])
    client = MlflowClient(server.address)
    assert client.get_run(run).info.run_name == "sweep"
    found = client.download_artifacts(run, "front.html", str(tmp_path))
    assert Path(found).read_text() == "the front"
    with pytest.raises(mlflow.MlflowException, match="Permission denied"):
        client.log_metric(run, "accuracy", 1.0)
    with pytest.raises(requests.HTTPError, match="403 Client Error"):
        client.log_artifact(run, str(tmp_path / "front.html"))


def test_the_assistant_is_switched_off(server) -> None:
    """MLflow's own would start a shell for the administrator of a browser on this machine."""
    for path in ("config", "providers", "message", "skills/install"):
        for spelled in ("/ajax-api/3.0/mlflow/assistant/", "//ajax-api//3.0/mlflow/%61ssistant/"):
            assert server.ask(spelled + path, user=server.admin) == (404, "the assistant is switched off\n")


def test_a_grant_lets_an_account_write(
    server, as_admin: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What docs/server.md says about accounts."""
    experiment = as_admin.create_experiment("arsvd-granted")
    as_admin.create_registered_model("arsvd-granted")
    accounts = get_app_client("basic-auth", tracking_uri=server.address)
    accounts.create_user("ada", "a password for ada")
    asked = ("/api/2.0/mlflow/runs/create", "POST", json.dumps({"experiment_id": experiment}))
    renamed = {"name": "arsvd-granted", "description": "by ada"}
    described = ("/api/2.0/mlflow/registered-models/update", "PATCH", json.dumps(renamed))
    ada = ("ada", "a password for ada")
    assert server.ask(*asked, user=ada)[0] == 403
    assert server.ask(*described, user=ada)[0] == 403
    accounts.grant_user_permission("ada", "experiment", experiment, "EDIT")
    accounts.grant_user_permission("ada", "registered_model", "arsvd-granted", "EDIT")
    assert server.ask(*asked, user=ada)[0] == 200
    assert server.ask(*described, user=ada)[0] == 200


def test_a_sweep_lands_there_and_its_models_load(
    server, as_admin: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "TUNE_"))}
    variables |= {"ARSVD_HOME": str(tmp_path / "home"), "MLFLOW_TRACKING_URI": server.address}
    members = [
        "search.trials=2",
        "training.epochs=4",
        "model.hidden={choice: [[12]]}",
        "model.reference=[12]",
    ]
    cheap = ["compression.finetune_epochs=0", "compression.energy.points=8", "select.max_drop=0.1"]
    done = subprocess.run(
        [str(Path(sys.executable).with_name("arsvd")), "sweep", "digits", *members, *cheap],
        env=variables,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert not (tmp_path / "home" / "mlflow.db").exists()
    experiment = as_admin.get_experiment_by_name("arsvd-digits")
    assert experiment is not None
    runs = as_admin.search_runs([experiment.experiment_id])
    assert sorted(run.info.run_name.split()[0] for run in runs) == ["member", "member", "sweep"]
    assert {run.info.status for run in runs} == {"FINISHED"}

    account = {"username": "loader", "password": "loads and nothing else"}
    assert (
        server.ask("/api/2.0/mlflow/users/create", "POST", json.dumps(account), user=server.admin)[0] == 200
    )
    monkeypatch.setenv("ARSVD_HOME", str(tmp_path / "other"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "loader")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "loads and nothing else")
    assert load_best("digits", alias="most-accurate")(torch.rand(3, 1, 8, 8)).shape == (3, 10)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong and long enough")
    with pytest.raises(TrackingError, match=r"refused access .status 401"):
        load_best("digits")

    # the password was in the environment of everything that ran
    kept = [path for path in (tmp_path / "home").rglob("*") if path.is_file()]
    assert len(kept) > 5
    for path in kept:
        assert server.admin[1].encode() not in path.read_bytes(), path
    assert server.admin[1] not in done.stdout + done.stderr


def test_no_secret_shows(server, database: str) -> None:
    password = server.admin[1]
    secrets = [password, PASSWORD_WITH_ESCAPES, "p%40ss", (server.data / "secret-key").read_text().strip()]
    lines = [Path(f"/proc/{pid}/cmdline").read_bytes().decode() for pid in server.processes()]
    lines.append(Path(f"/proc/{server.process.pid}/cmdline").read_bytes().decode())
    assert len(lines) >= 3
    shown = [*lines, server.out.read_text(), server.err.read_text(), (server.data / "server.log").read_text()]
    for text in shown:
        for secret in secrets:
            assert secret not in text
    for name in ("admin-password", "secret-key", "authentication.ini", "server.log", "lock"):
        assert stat.S_IMODE((server.data / name).stat().st_mode) == 0o600, name
    for process in [server.process.pid, *server.processes()]:
        listed = subprocess.run(["ps", "-o", "args=", "-p", str(process)], capture_output=True, text=True)
        assert "p%40ss" not in listed.stdout


def test_it_tells_where_the_password_is_and_that_nothing_is_encrypted(server) -> None:
    lines = server.out.read_text().splitlines()
    assert lines[2:] == [
        f"export MLFLOW_TRACKING_URI={server.address}",
        "export MLFLOW_TRACKING_USERNAME=admin",
        f'export MLFLOW_TRACKING_PASSWORD="$(cat {server.data / "admin-password"})"',
    ]
    shell = subprocess.run(
        ["bash", "-c", "\n".join(lines[2:]) + '\necho "$MLFLOW_TRACKING_PASSWORD"'],
        capture_output=True,
        text=True,
    )
    assert shell.stdout.strip() == server.admin[1]
    assert "travel unencrypted" in server.err.read_text()


def test_a_second_start_keeps_the_password_and_everything_else(
    server, command: Callable, database: str
) -> None:
    """Runs last: it ends the module's server."""
    password = server.admin[1]
    assert server.end(signal.SIGTERM) == 0
    again = command("--auth", "--workers", "2", data=server.data, ARSVD_DB=database)
    assert again.admin[1] == password
    assert password not in again.out.read_text() + again.err.read_text()
    status, text = again.ask(SEARCH, "POST", '{"max_results": 5}', user=again.admin)
    assert status == 200
    assert "arsvd-shared" in text
    assert again.end() == 0
    assert again.processes() == []

    # a file that does not hold the password (lost, or changed through MLflow) is told, not used silently
    (server.data / "admin-password").unlink()
    third = command("--auth", data=server.data, ARSVD_DB=database)
    assert "admin's password was set earlier and is not the one in" in third.err.read_text()
    assert not (server.data / "admin-password").exists()
    assert third.ask(SEARCH, "POST", '{"max_results": 5}', user=("admin", password))[0] == 200
    assert os.path.exists(server.data / "secret-key")
