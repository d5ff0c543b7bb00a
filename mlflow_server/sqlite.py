"""Addresses of SQLite files, whatever characters their paths hold."""

from pathlib import Path
from urllib.parse import quote

from mlflow_server.errors import SettingError


def sqlite_address(path: Path) -> str:
    """Return the address by which MLflow opens an SQLite file.

    Args:
        path: absolute path of the file.

    Raises:
        SettingError: the installed SQLAlchemy cannot open a path with such characters.
    """
    plain = str(path)
    if not set(plain) & set("?%"):
        return f"sqlite:///{plain}"
    # Every character, slashes too: MLflow would create folders for what it reads as a path, and this is not
    # one.
    address = f"sqlite:///{quote(plain, safe='')}"
    if sqlite_file(address) != path:  # SQLAlchemy before 2.1 takes an escaped path literally
        raise SettingError(f"{plain} holds '?' or '%', which needs SQLAlchemy 2.1: use another folder")
    return address


def sqlite_file(address: str) -> Path | None:
    """Return the file that a database's address names; None where it names none, or is of another kind.

    Args:
        address: address as SQLAlchemy and MLflow write it.

    Raises:
        sqlalchemy.exc.ArgumentError: it is not an address.
    """
    from sqlalchemy.engine import make_url

    url = make_url(address)
    if url.get_backend_name() != "sqlite" or not url.database or url.database.startswith((":", "file:")):
        return None
    return Path(url.database).absolute()
