"""The database behind a server: which ones can be used, and whether it opens."""

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_server.errors import ServerError, SettingError
from mlflow_server.sqlite import sqlite_address

if TYPE_CHECKING:
    from sqlalchemy import URL

_CONNECT_SECONDS = 5
_REMOTE = ("postgresql", "mysql")
_POSTGRES = {"postgresql+psycopg2": "psycopg2", "postgresql+psycopg": "psycopg"}
_PACKAGES = {"psycopg2": "psycopg2-binary", "psycopg": "'psycopg[binary]'"}


def resolve_database(uri: str) -> str:
    """Return a database's address with an absolute path.

    Args:
        uri: address sqlite:///PATH or postgresql://USER@HOST:PORT/NAME. The password may be a part of it, or
            come from PGPASSWORD or ~/.pgpass.

    Raises:
        SettingError: the address is invalid, or the database is not supported.
    """
    url = _parsed(uri)
    backend = url.get_backend_name()
    if backend == "sqlite":
        if not url.database or url.database == ":memory:":
            raise SettingError(f"--db {uri!r} names no file; write sqlite:///PATH")
        return sqlite_address(Path(url.database).expanduser().absolute())
    if backend != "postgresql" or url.drivername not in ("postgresql", *_POSTGRES):
        raise SettingError(
            f"--db {_shown(url)!r} cannot be used: it must start with sqlite:/// or postgresql://"
        )
    if url.drivername == "postgresql":
        # the driver that this stands for depends on SQLAlchemy's version, so the installed one is named
        present = [name for name, module in _POSTGRES.items() if importlib.util.find_spec(module)]
        url = url.set(drivername=(present or list(_POSTGRES))[0])
    return url.render_as_string(hide_password=False)


def make_database(uri: str) -> None:
    """Make an SQLite file that only this user may read, unless it exists; other databases are left alone.

    Args:
        uri: address of the database, as `resolve_database` returns it.

    Raises:
        ServerError: the file cannot be made or written.
    """
    url = _parsed(uri)
    if url.get_backend_name() != "sqlite":
        return
    path = Path(str(url.database))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise ServerError(
            f"the tracking database {path} cannot be made or written ({error.strerror})"
        ) from None


def check_database(uri: str) -> None:
    """Open a database once: MLflow itself tries ten times with growing pauses, which takes minutes.

    Args:
        uri: address of the database, as SQLAlchemy writes it.

    Raises:
        SettingError: no database has such an address.
        ServerError: the driver is missing, nothing answers, the password is wrong, or there is no such
            database. The message holds no password.
    """
    import sqlalchemy

    url = _parsed(uri)
    limited = {"connect_timeout": _CONNECT_SECONDS} if url.get_backend_name() in _REMOTE else {}
    try:
        engine = sqlalchemy.create_engine(url, connect_args=limited)
        try:
            engine.connect().close()
        finally:
            engine.dispose()
    except ImportError:
        raise ServerError(
            f"the tracking database {_shown(url)} needs the driver {url.get_driver_name()}: "
            f"pip install {_PACKAGES.get(url.get_driver_name(), url.get_driver_name())}"
        ) from None
    except (sqlalchemy.exc.SQLAlchemyError, OSError) as error:
        text = str(error.orig) if isinstance(error, sqlalchemy.exc.DBAPIError) else str(error)
        raise ServerError(
            f"the tracking database {_shown(url)} cannot be opened: "
            f"{_without_password(text, url)}{_remedy(text)}"
        ) from None


def has_password(uri: str) -> bool:
    """Tell whether an address contains a password."""
    url = _parsed(uri)
    return bool(url.password) or any("password" in option for option in url.query)


def _shown(url: "URL") -> str:
    return url.set(query={}).render_as_string()  # this hides the password, but not one among the options


def _parsed(uri: str) -> "URL":
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    try:
        url = make_url(uri)
        url.get_dialect()  # looks up the kind of database
    except (ArgumentError, NoSuchModuleError, ValueError):
        # the address is not repeated: its password could be anywhere in it
        raise SettingError(
            "the tracking database has no valid address; write sqlite:///PATH or "
            "postgresql://USER@HOST:PORT/NAME, with %-escapes for /, @, : and % in user and password"
        ) from None
    return url


def _without_password(text: str, url: "URL") -> str:
    line = " ".join(text.split())
    hidden = [str(url.password)] if url.password else []
    hidden += [str(value) for option, value in url.query.items() if "password" in option]
    for word in hidden:
        line = line.replace(word, "***")
    return line


def _remedy(text: str) -> str:
    remedies = {
        "password authentication failed": "the user or the password is wrong",
        "no password supplied": "give the password in PGPASSWORD or ~/.pgpass",
        "does not exist": "make it first, with createdb for a database and createuser for a user",
        "refused": "is the database server running there?",
        "timeout": "is the database server running there?",
        "translate host name": "its host name is not known",
    }
    return next((f" ({remedy})" for sign, remedy in remedies.items() if sign in text), "")
