"""MLflow's databases in SQLite files: their tables are created and changed as a whole or not at all.

MLflow creates its tables in some sixty steps, each of which SQLite commits at once. A process that ends in
between leaves a file that no MLflow opens again. So the steps are taken in a copy that nobody else sees, and
the copy is written into the file in one transaction: if that is interrupted, SQLite rolls it back when the
file is next opened. PostgreSQL needs none of this, since all the steps are one transaction there.
"""

import contextlib
import logging
import secrets
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from mlflow_server.errors import ServerError
from mlflow_server.sqlite import sqlite_file

_WAIT_SECONDS = 60.0  # for another process that creates the tables


@dataclass(frozen=True)
class Tables:
    """One of MLflow's sets of tables.

    Attributes:
        migrations: folder of its migration steps, in MLflow's package.
        version: table that says which steps a database has taken.
        changed: function that takes every step in a copy of a database, and returns the copy, open.
        lost: advice where a file's content cannot be kept.
    """

    migrations: str
    version: str
    changed: Callable[[sqlite3.Connection], sqlite3.Connection]
    lost: str


def prepare_tracking(uri: str) -> None:
    """Create the tables of runs and models, or bring them up to date, where they are in an SQLite file.

    Args:
        uri: address of the database; one of another kind is left to MLflow.

    Raises:
        ServerError: the file cannot be used; the message says what to do.
    """
    _prepare(
        uri,
        Tables(
            "store/db_migrations",
            "alembic_version",
            _changed_tracking,
            "`arsvd sync SWEEP` fills it from the sweeps' folders",
        ),
    )


def prepare_accounts(uri: str) -> None:
    """Create the tables of accounts, or bring them up to date, where they are in an SQLite file.

    Args:
        uri: address of the database; one of another kind is left to MLflow.

    Raises:
        ServerError: the file cannot be used; the message says what to do.
    """
    _prepare(
        uri,
        Tables(
            "server/auth/db/migrations",
            "alembic_version_auth",
            _changed_accounts,
            "its accounts and grants have to be made again",
        ),
    )


def _prepare(uri: str, tables: Tables) -> None:
    path = sqlite_file(uri)
    if path is None:
        return
    import mlflow
    from alembic.script import ScriptDirectory
    from sqlalchemy.exc import SQLAlchemyError

    steps = ScriptDirectory(str(Path(mlflow.__file__).parent / tables.migrations))
    head, known = steps.get_current_head(), {step.revision for step in steps.walk_revisions()}
    try:
        if path.exists():
            with contextlib.closing(_open(path, "rw")) as database:
                if _version(database, tables.version) == head:
                    return
        with _alone(path) as database:
            found = _version(database, tables.version)
            if found is not None and found not in known:
                raise ServerError(
                    f"the database {path} was made by a newer MLflow (its tables are at {found}): "
                    "install that release, or choose another file"
                )
            if found != head:
                _change(database, path, tables)
    except (sqlite3.Error, SQLAlchemyError, OSError) as error:
        remedy = "; end the process that holds it" if "locked" in str(error) else ""
        raise ServerError(f"the database {path} cannot be opened or written ({error}){remedy}") from None


def _change(database: sqlite3.Connection, path: Path, tables: Tables) -> None:
    """Take every step in a copy of a database, and replace the database's content by the copy's."""
    with _quiet():
        try:
            changed = tables.changed(database)
        except Exception as error:  # half of a step was taken before, so the next may fail with anything
            cause = (str(error) or type(error).__name__).splitlines()[0]
            with contextlib.closing(sqlite3.connect("")) as empty:
                changed = tables.changed(empty)
            if kept := _filled(database) - _filled(changed):
                raise ServerError(
                    f"the tables of the database {path} cannot be brought up to date, as after an "
                    f"interruption of an earlier release ({cause}), and there is data in it "
                    f"({', '.join(sorted(kept))}): put a backup in its place, or move it away to begin a new "
                    f"one; {tables.lost}"
                ) from None
    with contextlib.closing(changed):
        changed.backup(database)


def _changed_tracking(database: sqlite3.Connection) -> sqlite3.Connection:
    import sqlalchemy
    from mlflow.store.db.utils import _initialize_tables  # creates what is missing and takes every step

    copy = sqlite3.connect("")  # in memory, or in an unnamed file once it grows large
    database.backup(copy)
    engine = sqlalchemy.create_engine("sqlite://", creator=lambda: copy, poolclass=sqlalchemy.StaticPool)
    _initialize_tables(engine)
    return copy


def _changed_accounts(database: sqlite3.Connection) -> sqlite3.Connection:
    import sqlalchemy
    from mlflow.server.auth.db.utils import migrate_if_needed

    # its steps open connections of their own, which have to share the same memory
    name = f"file:arsvd-{secrets.token_hex(8)}?mode=memory&cache=shared"
    copy = sqlite3.connect(name, uri=True)
    database.backup(copy)
    engine = sqlalchemy.create_engine(f"sqlite:///{name}&uri=true", poolclass=sqlalchemy.NullPool)
    migrate_if_needed(engine, "head")
    return copy


def _open(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"file:{quote(str(path))}?mode={mode}", uri=True, timeout=_WAIT_SECONDS, isolation_level=None
    )


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[sqlite3.Connection]:
    """Keep every other process out of a file, which is created where it is missing."""
    with contextlib.closing(_open(path, "rwc")) as database:
        # a lock that outlives its transaction: what is read here still holds when it is overwritten
        database.execute("pragma locking_mode = exclusive")
        database.execute("begin exclusive")
        database.execute("commit")
        yield database


def _tables(database: sqlite3.Connection) -> list[str]:
    return [name for (name,) in database.execute("select name from sqlite_master where type = 'table'")]


def _version(database: sqlite3.Connection, table: str) -> str | None:
    if table not in _tables(database):
        return None
    row = database.execute(f'select version_num from "{table}"').fetchone()  # noqa: S608 - named above
    return None if row is None else str(row[0])


def _filled(database: sqlite3.Connection) -> set[str]:
    """Return the tables that hold something, except for the experiment that MLflow itself creates."""
    held = set()
    for table in _tables(database):
        apart = "where experiment_id != 0" if table == "experiments" else ""
        row = f'select 1 from "{table}" {apart} limit 1'  # noqa: S608 - the database's own name
        if database.execute(row).fetchone():
            held.add(table)
    return held


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the messages about single steps."""
    loggers = [logging.getLogger(name) for name in ("alembic", "mlflow.store.db.utils")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
