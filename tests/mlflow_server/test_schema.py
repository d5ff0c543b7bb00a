"""MLflow's databases in SQLite files, with every interruption that their making and changing can meet."""

import os
import shutil
import signal
import sqlite3
import stat
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy
from alembic import command
from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore as AccountStore
from mlflow.store.db import utils as tracking
from mlflow.store.tracking.dbmodels.initial_models import Base as InitialBase

from mlflow_server import ServerError, schema
from mlflow_server.schema import prepare_accounts, prepare_tracking
from sweeps.tracking import TrackingError, connect

InChild = Callable[..., int]
OLDER = "89d4b8295536"  # MLflow's tables of 2019


def kill_at_statement(number: int) -> None:
    """Let this process be killed before the n-th statement that SQLAlchemy sends."""
    left = [number]

    @sqlalchemy.event.listens_for(sqlalchemy.Engine, "before_cursor_execute")
    def count(*_: object) -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Whole databases, to be copied: making one takes half a second."""
    folder = tmp_path_factory.mktemp("made")
    prepare_tracking(f"sqlite:///{folder / 'mlflow.db'}")
    prepare_accounts(f"sqlite:///{folder / 'accounts.db'}")
    return {"mlflow.db": folder / "mlflow.db", "accounts.db": folder / "accounts.db"}


def half_made(in_child: InChild, path: Path, statement: int) -> None:
    """Leave what an earlier release left: MLflow made its tables in place, and was killed."""

    def make() -> None:
        kill_at_statement(statement)
        tracking._initialize_tables(sqlalchemy.create_engine(f"sqlite:///{path}"))

    assert in_child(make) == -signal.SIGKILL


def older(path: Path) -> None:
    """Make the tables of an older MLflow, with an experiment and a run in them."""
    engine = sqlalchemy.create_engine(f"sqlite:///{path}")
    InitialBase.metadata.create_all(engine)
    config = tracking._get_alembic_config(f"sqlite:///{path}")
    command.upgrade(config, OLDER)
    with engine.begin() as connection:
        connection.execute(
            sqlalchemy.text("insert into experiments values (7, 'old', 'file:///old', 'active')")
        )
        connection.execute(
            sqlalchemy.text(
                "insert into runs (run_uuid, name, status, lifecycle_stage, experiment_id, artifact_uri, "
                "start_time, end_time, source_type, user_id) values ('a' , 'run', 'FINISHED', 'active', 7, "
                "'file:///old/a', 1, 2, 'LOCAL', 'me')"
            )
        )
    engine.dispose()


def content(path: Path) -> dict[str, tuple[str, list[tuple[object, ...]]]]:
    """Return each table's making and its first rows."""
    with closing(sqlite3.connect(path)) as database:
        return {
            name: (
                sql,
                database.execute(f'select * from "{name}" limit 9').fetchall() if kind == "table" else [],
            )
            for kind, name, sql in database.execute("select type, name, sql from sqlite_master").fetchall()
        }


@pytest.mark.parametrize("statement", [40, 400, 900])
def test_a_kill_while_a_store_is_made_leaves_one_that_opens(
    in_child: InChild, statement: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARSVD_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def begin() -> None:
        kill_at_statement(statement)
        connect()

    assert in_child(begin) == -signal.SIGKILL
    assert [experiment.name for experiment in connect().search_experiments()] == ["Default"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlflow.db", "mlflow.lock"]


@pytest.mark.parametrize("statement", [2, 20])
def test_a_kill_while_accounts_are_made_leaves_a_database_that_opens(
    in_child: InChild, statement: int, tmp_path: Path
) -> None:
    uri = f"sqlite:///{tmp_path / 'accounts.db'}"

    def begin() -> None:
        kill_at_statement(statement)
        prepare_accounts(uri)

    assert in_child(begin) == -signal.SIGKILL
    prepare_accounts(uri)
    store = AccountStore()
    store.init_db(uri)
    store.create_user("ada", "a password for ada")
    assert store.authenticate_user("ada", "a password for ada")
    assert [path.name for path in tmp_path.iterdir()] == ["accounts.db"]


@pytest.mark.parametrize("killed", [True, False], ids=["killed", "disk full"])
@pytest.mark.parametrize("name", ["mlflow.db", "accounts.db"])
@pytest.mark.parametrize("before", ["no file", "empty", "older"])
def test_the_file_is_written_whole_or_stays_what_it_was(
    in_child: InChild,
    before: str,
    name: str,
    killed: bool,
    made: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Cut at any byte, in the file or in SQLite's journal beside it."""

    def changed(database: sqlite3.Connection) -> sqlite3.Connection:
        return sqlite3.connect(made[name])

    monkeypatch.setattr(schema, "_changed_tracking", changed)
    monkeypatch.setattr(schema, "_changed_accounts", changed)
    prepare = prepare_tracking if name == "mlflow.db" else prepare_accounts
    version = "alembic_version" if name == "mlflow.db" else "alembic_version_auth"
    path, whole = tmp_path / name, content(made[name])
    size = made[name].stat().st_size
    tried = 0
    for number in (0, 512, size // 2, size - 1):
        path.unlink(missing_ok=True)
        if before == "empty":
            path.touch()
        if before == "older":
            with closing(sqlite3.connect(path)) as database:
                database.execute(f"create table {version} (version_num)")
                database.execute("create table filling as select zeroblob(2000000) as x")
                database.commit()
        old = content(path) if before == "older" else content(Path(":memory:"))

        status = in_child(lambda: prepare(f"sqlite:///{path}"), size=number, killed=killed)
        if status == 0:  # it has no more than so many bytes to write
            continue
        tried += 1
        assert status == (-signal.SIGXFSZ if killed else 1)
        assert content(path) == old
        prepare(f"sqlite:///{path}")
        assert content(path) == whole
    assert tried >= 3
    assert {each.name for each in tmp_path.iterdir()} == {name}


@pytest.mark.parametrize("statement", [60, 250])
def test_an_interrupted_upgrade_keeps_what_was_there(
    in_child: InChild, statement: int, tmp_path: Path
) -> None:
    path = tmp_path / "mlflow.db"
    older(path)
    path.chmod(0o600)
    before = content(path)

    def upgrade() -> None:
        kill_at_statement(statement)
        connect(f"sqlite:///{path}")

    assert in_child(upgrade) == -signal.SIGKILL
    assert content(path) == before
    client = connect(f"sqlite:///{path}")
    assert client.get_run("a").info.artifact_uri == "file:///old/a"
    assert client.get_experiment("7").name == "old"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("statement", [24, 900])
def test_a_store_that_an_earlier_release_left_half_made_is_made_anew(
    in_child: InChild, statement: int, tmp_path: Path
) -> None:
    path = tmp_path / "mlflow.db"
    half_made(in_child, path, statement)
    assert [each.name for each in connect(f"sqlite:///{path}").search_experiments()] == ["Default"]


def test_a_half_changed_store_with_data_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    older(path)
    with closing(sqlite3.connect(path)) as database:
        database.execute("create table registered_models (name)")  # the next step's, taken before the kill
    before = content(path)
    with pytest.raises(
        TrackingError, match=r"cannot be brought up to date.*registered_models already exists"
    ) as told:
        connect(f"sqlite:///{path}")
    assert "there is data in it (experiments, runs)" in str(told.value)
    assert "move it away to begin a new one; `arsvd sync SWEEP` fills it" in str(told.value)
    assert content(path) == before


def test_a_store_of_a_newer_release_is_named(made: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    shutil.copy(made["mlflow.db"], path)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("update alembic_version set version_num = 'f00'")
    with pytest.raises(ServerError, match=r"made by a newer MLflow \(its tables are at f00\): install"):
        prepare_tracking(f"sqlite:///{path}")


def test_a_file_other_than_a_database_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    path.write_bytes(b"not a database at all" * 500)
    with pytest.raises(ServerError, match=r"cannot be opened or written .file is not a database.$"):
        prepare_tracking(f"sqlite:///{path}")


def test_a_current_database_is_not_written_and_opens_at_once(made: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    shutil.copy(made["mlflow.db"], path)
    path.chmod(0o400)
    before, began = path.stat(), time.process_time()
    prepare_tracking(f"sqlite:///{path}")
    assert time.process_time() - began < 0.2
    assert path.stat() == before


@pytest.mark.parametrize("uri", ["sqlite://", "sqlite:///:memory:", "postgresql://nobody@nowhere/db"])
def test_addresses_other_than_files_are_left_to_mlflow(uri: str) -> None:
    prepare_tracking(uri)


def test_a_database_that_another_process_holds_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "_WAIT_SECONDS", 0.0)
    path = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("begin exclusive")
        with pytest.raises(ServerError, match=r"\(database is locked\); end the process that holds it$"):
            prepare_tracking(f"sqlite:///{path}")
