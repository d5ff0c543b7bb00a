"""Settings are refused before anything starts, by name, and without repeating a password."""

from pathlib import Path

import pytest

from mlflow_server import ServerSettings, SettingError, serve
from mlflow_server.environment import child_environment


def test_defaults_are_this_machine_alone_and_one_folder(tmp_path: Path) -> None:
    settings = ServerSettings(tmp_path / "server").resolved()
    assert (settings.host, settings.authentication) == ("127.0.0.1", False)
    assert settings.database == f"sqlite:///{tmp_path / 'server' / 'mlflow.db'}"
    assert settings.artifacts == (tmp_path / "server" / "artifacts").as_uri()
    assert not (tmp_path / "server").exists()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7"])
def test_an_address_that_others_reach_means_authentication(host: str, tmp_path: Path) -> None:
    assert ServerSettings(tmp_path, host=host).resolved().authentication is True
    with (
        pytest.raises(
            SettingError, match=rf"--host {host} can be reached by others.*only with authentication"
        ),
        serve(ServerSettings(tmp_path / "data", host=host, port=0, authentication=False)),
    ):
        pytest.fail("it cannot have started")
    assert list(tmp_path.iterdir()) == []


def test_authentication_can_be_had_on_loopback(tmp_path: Path) -> None:
    assert ServerSettings(tmp_path, authentication=True).resolved().authentication is True


@pytest.mark.parametrize(
    ("database", "message"),
    [
        (
            "mysql://u:hunter2@h/db",
            r"--db 'mysql://u:\*\*\*@h/db' cannot be used: it must start with sqlite:/// or",
        ),
        ("postgresql+asyncpg://u:hunter2@h/db", r"must start with sqlite:/// or postgresql://"),
        (
            "postgres://u:hunter2@h/db",
            "the tracking database has no valid address; write sqlite:///PATH or postgresql://",
        ),
        ("postgresql://u:hunter2@h:port/db", "the tracking database has no valid address"),
        ("/var/lib/mlflow.db", "the tracking database has no valid address"),
        ("sqlite://", "names no file; write sqlite:///PATH"),
        ("sqlite:///:memory:", "names no file"),
    ],
)
def test_databases_that_cannot_be_used(database: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=message) as caught:
        ServerSettings(tmp_path, database=database).resolved()
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"artifacts": "gs://bucket/x"},
            "--artifacts 'gs://bucket/x' cannot be used: give a folder or s3://",
        ),
        ({"artifacts": "s3:///x"}, "names no bucket"),
        ({"names": ("*",)}, "--allow-host '\\*' is no host name"),
        ({"workers": 0}, "--workers must be at least 1, got 0"),
        ({"tls": (Path("/none.pem"), Path("/none.key"))}, "the TLS file /none.pem does not exist"),
    ],
)
def test_other_settings_that_cannot_be_used(changes: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=message):
        ServerSettings(tmp_path, **changes).resolved()  # type: ignore[arg-type]


def test_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = ServerSettings(Path("data"), database="sqlite:///a.db", artifacts="files").resolved()
    assert settings.data == tmp_path / "data"
    assert settings.database == f"sqlite:///{tmp_path / 'a.db'}"
    assert settings.artifacts == (tmp_path / "files").as_uri()


def test_no_setting_of_another_server_reaches_the_child(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "MLFLOW_TRACKING_URI",
        "MLFLOW_TRACKING_PASSWORD",
        "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE",
        "MLFLOW_AUTH_CONFIG_PATH",
        "MLFLOW_UVICORN_OPTS",
        "_MLFLOW_AUTH_ADMIN_BOOTSTRAPPED",
        "UVICORN_HOST",
    ):
        monkeypatch.setenv(name, "true")
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", "http://s3.example")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "false")
    found = {name: value for name, value in child_environment().items() if "MLFLOW" in name or "UVI" in name}
    assert found == {
        "MLFLOW_S3_ENDPOINT_URL": "http://s3.example",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_ENABLE_AI_GATEWAY": "false",
    }
