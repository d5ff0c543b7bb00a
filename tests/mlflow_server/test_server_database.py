"""A database that does not open is told with its cause and its cure, never with its password."""

import importlib.util
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from mlflow_server import ServerError
from mlflow_server.database import check_database, has_password, make_database, resolve_database


def check(uri: str) -> None:
    resolved = resolve_database(uri)
    make_database(resolved)
    check_database(resolved)


def test_a_database_that_opens(postgres, tmp_path: Path) -> None:
    check(postgres.create("opens"))
    check(f"sqlite:///{tmp_path / 'new' / 'folder' / 'mlflow.db'}")
    assert stat.S_IMODE((tmp_path / "new" / "folder" / "mlflow.db").stat().st_mode) == 0o600


@pytest.mark.parametrize("driver", ["psycopg2", "psycopg"])
def test_either_driver_will_do(driver: str, postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(driver)
    real = importlib.util.find_spec
    drivers = ("psycopg", "psycopg2")
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in drivers and name != driver else real(name)
    )
    resolved = resolve_database(postgres.uri())
    assert resolved == postgres.uri().replace("postgresql:", f"postgresql+{driver}:")
    check_database(resolved)
    with pytest.raises(ServerError, match="the user or the password is wrong"):
        check(postgres.uri(password="wrong"))


def test_the_password_may_come_from_the_environment(postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = postgres.uri().replace(f":{postgres.password}@", "@")
    assert not has_password(bare)
    assert has_password(postgres.uri())
    monkeypatch.setenv("PGPASSWORD", postgres.password)
    check(bare)
    monkeypatch.delenv("PGPASSWORD")
    monkeypatch.setenv("PGPASSFILE", "/none")
    with pytest.raises(ServerError, match=r"no password supplied \(give the password in PGPASSWORD or"):
        check(bare)


def test_a_wrong_password(postgres) -> None:
    with pytest.raises(ServerError, match="the user or the password is wrong") as caught:
        check(postgres.uri(password="hunter%2F2"))
    assert "hunter" not in str(caught.value)
    assert f":***@127.0.0.1:{postgres.port}/postgres" in str(caught.value)


def test_a_database_that_does_not_exist(postgres) -> None:
    with pytest.raises(ServerError, match=r'database "none" does not exist \(make it first, with createdb'):
        check(postgres.uri("none"))


def test_nothing_answers() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(ServerError, match=r"refused.*is the database server running there") as caught:
        check(f"postgresql://bob:hunter2@127.0.0.1:{port}/mlflow")
    assert "hunter2" not in str(caught.value)


def test_a_missing_driver_is_named() -> None:
    code = (
        "import sys; sys.modules['psycopg2'] = None\n"
        "from mlflow_server.database import check_database\n"
        "from mlflow_server import ServerError\n"
        "try: check_database('postgresql+psycopg2://u:hunter2@127.0.0.1:1/db')\n"
        "except ServerError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == (
        "the tracking database postgresql+psycopg2://u:***@127.0.0.1:1/db needs the driver psycopg2: "
        "pip install psycopg2-binary"
    )


def test_a_file_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        ServerError,
        match=r"the tracking database .*/mlflow\.db cannot be made or written \(Not a directory\)",
    ):
        check(f"sqlite:///{tmp_path}/file/x/mlflow.db")


def test_a_password_among_the_options() -> None:
    uri = "postgresql://bob@127.0.0.1:1/mlflow?password=hunter2&sslmode=require"
    assert has_password(uri)
    with pytest.raises(ServerError) as caught:
        check_database(uri)
    assert "postgresql://bob@127.0.0.1:1/mlflow " in str(caught.value)
    assert "hunter2" not in str(caught.value)
