"""Commands run in a folder of their own, and the check that a refused one leaves no trace."""

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sweeps.cli import main
from sweeps.run.progress import STARTING
from sweeps.tracking import connect


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to work in, with a home that does not exist yet; the environment is put back."""
    before = dict(os.environ)
    monkeypatch.setenv("ARSVD_HOME", str(tmp_path / "home"))
    for name in ("MLFLOW_TRACKING_URI", "ARSVD_DATA"):
        monkeypatch.delenv(name, raising=False)
    # Ray is not started here, though other tests of this process may have imported it
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """MLflow's SQLite store without anything in it."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    connect(f"sqlite:///{path}")
    return path.read_bytes()


@pytest.fixture
def store(workplace: Path, empty_store: bytes) -> Path:
    home = workplace / "home"
    home.mkdir(exist_ok=True)
    (home / "mlflow.db").write_bytes(empty_store)
    return home / "mlflow.db"


def listing(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in folder.rglob("*")
        if not path.name.startswith(("mlflow.db", "mlflow.lock"))
    }


@pytest.fixture
def refused(workplace: Path) -> Callable[..., str]:
    """Run a command that must be refused; returns its message."""

    def run(*arguments: str) -> str:
        before, stores = listing(workplace), set(workplace.rglob("mlflow.*"))
        result: Result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 2, (result.exception, result.output)
        assert result.stdout == ""
        message = result.stderr.removeprefix(f"{STARTING}\n")
        assert message.startswith("arsvd: ")
        assert message.count("arsvd: ") == 1
        assert "Traceback" not in result.output
        assert '  File "' not in result.output
        assert listing(workplace) == before
        assert {path for path in workplace.rglob("mlflow.*") if path.suffix != ".lock"} <= stores
        for database in workplace.rglob("mlflow.db"):
            with contextlib.closing(sqlite3.connect(database)) as store:
                for table in ("runs", "registered_models", "logged_models"):
                    assert store.execute(f"select count(*) from {table}").fetchone() == (0,)
        return message

    return run


@pytest.fixture
def misused(workplace: Path) -> Callable[..., str]:
    """Run a command that click itself must refuse; returns its message."""

    def run(*arguments: str) -> str:
        before = listing(workplace)
        result: Result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 2
        assert result.stdout == ""
        assert "Traceback" not in result.stderr
        assert listing(workplace) == before
        return result.stderr

    return run
