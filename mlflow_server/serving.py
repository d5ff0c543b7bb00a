"""The shared tracking server: from settings to a running MLflow server."""

import contextlib
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

from mlflow_server.addresses import address, allowed_hosts, allowed_origins, is_loopback
from mlflow_server.artifacts import check_artifacts
from mlflow_server.authentication import ADMIN, Authentication, admin_is_known, prepare_authentication
from mlflow_server.database import check_database, make_database
from mlflow_server.environment import child_environment
from mlflow_server.errors import ServerError
from mlflow_server.process import Server, free_port, running, wait_until_healthy
from mlflow_server.settings import ServerSettings
from mlflow_server.sqlite import sqlite_address

_WAIT_SECONDS = 180.0


@contextlib.contextmanager
def serve(settings: ServerSettings, wait_seconds: float = _WAIT_SECONDS) -> Iterator[Server]:
    """Run MLflow's tracking server until the context ends.

    Args:
        settings: settings of the server.
        wait_seconds: seconds that it may take to answer; the first start creates a database's tables.

    Yields:
        The server, once it answers.

    Raises:
        SettingError: a setting cannot be used.
        ServerError: the port, the database, the artifacts or a secret cannot be used, another server uses the
            folder, or the server ended or did not answer in time.
    """
    settings = settings.resolved()
    port = free_port(settings.host, settings.port)
    database = str(settings.database)
    _make_private(settings.data)
    with _locked(settings.data):
        make_database(database)
        check_database(database)
        check_artifacts(str(settings.artifacts))
        environment = child_environment() | {
            # Not on the command line: every user of this machine can read that.
            "MLFLOW_BACKEND_STORE_URI": database,
        }
        authentication = None
        if settings.authentication:
            accounts = database
            if database.startswith("sqlite:"):
                accounts = sqlite_address(settings.data / "accounts.db")
            authentication = prepare_authentication(settings.data, accounts)
            environment |= authentication.environment
        own = address(settings.host, port, "http" if settings.tls is None else "https")
        with (
            _log(settings.data) as log,
            running(_command(settings, port), environment, log, settings.data, private=True) as process,
        ):
            wait_until_healthy(process, log, own, wait_seconds)
            notices = _notices(settings, own, authentication)
            password_file = None if authentication is None else authentication.password_file
            yield Server(own, password_file, notices, process, log)


def _command(settings: ServerSettings, port: int) -> list[str]:
    hosts = allowed_hosts(settings.host, port, settings.names)
    # The access log would grow without bound; a client that holds a connection must not delay the shutdown.
    options = ["--no-access-log", "--timeout-graceful-shutdown", "5"]
    if settings.workers > 1:
        # importing MLflow takes longer than uvicorn waits for a sign of life
        options += ["--timeout-worker-healthcheck", "120"]
    if settings.tls is not None:
        certificate, key = settings.tls
        options += ["--ssl-certfile", str(certificate), "--ssl-keyfile", str(key)]
    command = [sys.executable, "-m", "mlflow_server.child", "server", "--app-name", "arsvd"]
    command += ["--host", settings.host, "--port", str(port)]
    command += ["--serve-artifacts", "--artifacts-destination", str(settings.artifacts)]
    command += ["--workers", str(settings.workers), "--uvicorn-opts", shlex.join(options)]
    command += ["--allowed-hosts", ",".join(hosts)]
    return [*command, "--cors-allowed-origins", ",".join(allowed_origins(hosts))]


def _notices(settings: ServerSettings, own: str, authentication: Authentication | None) -> tuple[str, ...]:
    found = []
    if authentication is not None and not admin_is_known(own, authentication):
        path = authentication.password_file
        if authentication.new:
            path.unlink()  # it would only mislead
        found.append(
            f"{ADMIN}'s password was set earlier and is not the one in {path}: write the current one there"
        )
    if settings.tls is None and not is_loopback(settings.host):
        found.append(
            "passwords and data travel unencrypted: put a proxy with TLS before the server, "
            "or give --tls-certificate and --tls-key"
        )
    return tuple(found)


def _make_private(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ServerError(f"the data folder {folder} cannot be made ({error.strerror})") from None


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep a second server out of a folder; the lock ends with this process, however that ends."""
    path = folder / "lock"
    lock = FileLock(path, timeout=0, mode=0o600)
    try:
        lock.acquire()
    except Timeout:
        owner = path.read_text(errors="replace").strip() or "unknown"
        raise ServerError(
            f"another server (process {owner}) uses the data folder {folder}; end it, or give --data"
        ) from None
    except OSError as error:
        raise ServerError(f"the data folder {folder} cannot be written ({error.strerror})") from None
    try:
        path.write_text(str(os.getpid()))
        yield
    finally:
        lock.release()


def _log(folder: Path) -> IO[bytes]:
    """Open the log; the previous server's log is kept beside it."""
    path = folder / "server.log"
    if path.exists():
        os.replace(path, folder / "server.log.1")
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "a+b")
