"""The administrator's password and the other secrets of MLflow's basic-auth application."""

import base64
import importlib.util
import os
import secrets
import stat
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from mlflow_server.errors import ServerError
from mlflow_server.process import direct_opener

ADMIN = "admin"
_LEAST_LENGTH = 12  # MLflow refuses shorter ones
# Accounts exist only where the administrator created them. Their holders browse and load everything, may
# start experiments of their own, and need a grant to write into those of others.
_DEFAULT_PERMISSION = "READ"


@dataclass(frozen=True)
class Authentication:
    """The secrets and settings that the basic-auth application needs.

    Attributes:
        environment: variables for the server's process, since secrets do not belong on a command line.
        password_file: file of the administrator's password, mode 0600.
        new: True if the password was created just now.
    """

    environment: dict[str, str]
    password_file: Path
    new: bool


def prepare_authentication(folder: Path, database: str) -> Authentication:
    """Create the secrets that are missing, and the configuration of the basic-auth application.

    Args:
        folder: folder that holds them.
        database: address of the database of accounts.

    Raises:
        ServerError: mlflow[auth] is not installed, or a secret's file cannot be used.
    """
    if importlib.util.find_spec("flask_wtf") is None:
        raise ServerError("authentication needs the package Flask-WTF: pip install 'mlflow[auth]'")
    password_file = folder / "admin-password"
    password, new = _secret(password_file)
    key, _ = _secret(folder / "secret-key")
    configuration = folder / "authentication.ini"
    _replace(configuration, _configuration(database))
    environment = {
        "MLFLOW_AUTH_CONFIG_PATH": str(configuration),
        "MLFLOW_AUTH_ADMIN_USERNAME": ADMIN,
        "MLFLOW_AUTH_ADMIN_PASSWORD": password,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": key,
    }
    return Authentication(environment, password_file, new)


def admin_is_known(address: str, authentication: Authentication) -> bool:
    """Tell whether a running server accepts the password in the file as its administrator's."""
    pair = f"{ADMIN}:{authentication.environment['MLFLOW_AUTH_ADMIN_PASSWORD']}"
    request = urllib.request.Request(  # noqa: S310 - an address of this machine
        f"{address}/api/2.0/mlflow/users/current",
        headers={"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()},
    )
    try:
        with direct_opener().open(request, timeout=30):
            return True
    except urllib.error.HTTPError as error:
        if error.code == 401:
            return False
        raise ServerError(f"the MLflow server answers its administrator with status {error.code}") from None
    except OSError as error:
        raise ServerError(f"the MLflow server at {address} does not answer: {error}") from None


def _configuration(database: str) -> str:
    # configparser expands %: an escaped character of a password would be taken for a reference
    return (
        "[mlflow]\n"
        f"default_permission = {_DEFAULT_PERMISSION}\n"
        f"database_uri = {database.replace('%', '%%')}\n"
        f"admin_username = {ADMIN}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )


def _secret(path: Path) -> tuple[str, bool]:
    """Read a secret, or create one; returns it, and True if it was created."""
    try:
        found = path.stat()
    except FileNotFoundError:
        made = secrets.token_urlsafe(24)
        _replace(path, made + "\n")
        return made, True
    except OSError as error:
        raise ServerError(f"{path} cannot be read ({error.strerror})") from None
    if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ServerError(
            f"{path} can be read by other users (mode {stat.S_IMODE(found.st_mode):04o}): chmod 600 {path}; "
            "and change the secret where others may have read it"
        )
    try:
        text = path.read_text().strip()
    except OSError as error:
        raise ServerError(f"{path} cannot be read ({error.strerror})") from None
    if len(text) < _LEAST_LENGTH:
        raise ServerError(
            f"{path} holds {len(text)} characters, a secret needs {_LEAST_LENGTH}; "
            "delete the file to have one made"
        )
    return text, False


def _replace(path: Path, text: str) -> None:
    """Write a file that only this user may read, as a whole or not at all."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        for left in path.parent.glob(f".{path.name}.*"):  # left by a process that was killed here
            left.unlink()
        with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(scratch, path)
    except OSError as error:
        raise ServerError(f"{path} cannot be written ({error.strerror})") from None
