"""Where the tracking server is, and whether it answers."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.locking import alone
from cluster.network import network_cause
from sweeps.tracking.outages import TrackingError as TrackingError
from sweeps.tracking.outages import one_line, tracking_errors
from sweeps.tracking.outages import redact as redact

if TYPE_CHECKING:
    from mlflow import MlflowClient

HOME_VARIABLE, DEFAULT_HOME = "ARSVD_HOME", ".arsvd"
STORE, LOCK = "mlflow.db", "mlflow.lock"
URI_VARIABLE = "MLFLOW_TRACKING_URI"
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_CONNECT_SECONDS = 4
_REMEDY = f"start the server, or set {URI_VARIABLE} to one that runs (unset it to track in a local file)"
# MLflow and its parts report their progress on loggers and by printing. Runs that write thousands of entities
# would drown the sweep's own messages. Whoever wants the reports back sets the variable.
_QUIET = {
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # a model's requirements are stated: a uv.lock in the current directory is not one of them
    "MLFLOW_UV_AUTO_DETECT": "false",
}
# With their levels. A failed statement is both logged with its traceback and raised: raising is enough.
_CHATTY_LOGGERS = {
    "alembic": logging.WARNING,
    "mlflow": logging.WARNING,
    "mlflow.store.db.utils": logging.CRITICAL,
}
_PROMPT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}  # seconds


def sweeps_home() -> Path | str:
    """Return where sweeps are kept: `ARSVD_HOME`, a folder or s3://bucket/prefix, else `.arsvd` here.

    Raises:
        TrackingError: the path starts with the home of a user whom this machine does not know.
    """
    home = os.environ.get(HOME_VARIABLE) or DEFAULT_HOME
    if "://" in home:
        return home.rstrip("/")
    try:
        return Path(home).expanduser().absolute()
    except RuntimeError:
        raise TrackingError(f"{HOME_VARIABLE} is {home}: there is no such user here") from None


def arsvd_home() -> Path:
    """Return the folder of the embedded tracking store, which is where sweeps are kept.

    Raises:
        TrackingError: sweeps are kept in a place that cannot hold a database file.
    """
    home = sweeps_home()
    if isinstance(home, Path):
        return home
    raise TrackingError(
        f"{HOME_VARIABLE} is {home}, where the embedded tracking store cannot be: "
        f"set {URI_VARIABLE} to a server"
    )


def default_uri() -> str:
    """Return the address of the embedded store, one SQLite file in the home directory.

    Raises:
        TrackingError: sweeps are kept in a place that cannot hold a database file.
    """
    from mlflow_server import SettingError
    from mlflow_server.sqlite import sqlite_address

    try:
        return sqlite_address(arsvd_home() / STORE)
    except SettingError as error:
        raise TrackingError(f"{HOME_VARIABLE} is {arsvd_home()}: {error}") from None


def quiet() -> None:
    """Keep MLflow's loggers from reporting progress; call this after its import, which sets their levels."""
    for name, level in _CHATTY_LOGGERS.items():
        logging.getLogger(name).setLevel(level)


def tracking_uri() -> str:
    """Return the tracking server to use: `MLFLOW_TRACKING_URI` where it is set, else the embedded store."""
    return os.environ.get(URI_VARIABLE, "").strip() or default_uri()


def has_store(uri: str) -> bool:
    """Tell whether a tracking server can have anything to read: the first sweep makes a database's file."""
    from sqlalchemy.exc import ArgumentError

    from mlflow_server.sqlite import sqlite_file

    if not uri.startswith("sqlite:"):
        return True
    try:
        file = sqlite_file(uri)
    except ArgumentError:
        return True  # `connect` says what is wrong with it
    return file is not None and file.is_file()


def artifact_location(uri: str, experiment: str) -> str | None:
    """Return the folder for an experiment's files, or None where the server decides.

    Args:
        uri: address of the tracking server.
        experiment: name of the experiment.
    """
    from mlflow_server.sqlite import sqlite_file
    from sweeps.tracking.moving import artifact_folder

    file = sqlite_file(uri) if uri.startswith("sqlite:") else None
    # beside the file: MLflow itself would put them into the current directory
    return None if file is None else artifact_folder(file, experiment)


def connect(uri: str | None = None) -> "MlflowClient":
    """Open the tracking server and make sure that it answers.

    The embedded store is created on first use.

    Args:
        uri: address of the server, as MLflow writes it; `tracking_uri()` when None.

    Returns:
        A client of the server's tracking store and model registry.

    Raises:
        TrackingError: the server does not answer within about ten seconds, is not a tracking server, or wants
            credentials.
    """
    uri = tracking_uri() if uri is None else uri
    for variable, value in _QUIET.items():
        os.environ.setdefault(variable, value)
    from mlflow import MlflowClient

    quiet()
    scheme = uri.split(":", 1)[0].lower() if "://" in uri else ""
    if scheme in ("http", "https"):
        _check_server(uri)
    elif scheme.split("+")[0] in _DATABASES:
        _check_database(uri)
    else:
        raise TrackingError(
            f"the tracking server {redact(uri)!r} cannot be used: "
            "its address must start with http://, https://, sqlite:///, postgresql:// or mysql://"
        )
    with tracking_errors(uri), prompt_requests(), _alone(uri):
        if scheme.split("+")[0] == "sqlite":
            _prepare(uri)
        client = MlflowClient(tracking_uri=uri)
        client.search_experiments(max_results=1)
    return client


@contextmanager
def prompt_requests() -> Iterator[None]:
    """Let requests in this context fail soon: MLflow's own defaults retry each of them for minutes.

    MLflow repeats a request without knowing whether it was carried out, so that a run can exist twice. Code
    that catches `ServerAwayError` checks first. Settings of the user in the environment take precedence.
    """
    added = {name: value for name, value in _PROMPT.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


@contextmanager
def _alone(uri: str) -> Iterator[None]:
    """Let one process at a time open the embedded store: if two made its tables, one of them would fail."""
    if not _is_embedded(uri):
        yield
        return
    with alone(arsvd_home() / LOCK):
        yield


def _prepare(uri: str) -> None:
    """Make the tables of a database file, or bring them and the paths in them up to date.

    An interruption never leaves half of them.
    """
    from mlflow_server import ServerError
    from mlflow_server.schema import prepare_tracking
    from mlflow_server.sqlite import sqlite_file
    from sweeps.tracking.moving import follow

    try:
        prepare_tracking(uri)
    except ServerError as error:
        raise TrackingError(str(error)) from None
    if (file := sqlite_file(uri)) is not None:
        follow(file)


def _check_server(uri: str) -> None:
    """Ask a server once, and retry once, with short time-outs: MLflow's own defaults retry for minutes."""
    from mlflow.exceptions import MlflowException
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    try:
        response = http_request(
            get_default_host_creds(uri),
            "/api/2.0/mlflow/experiments/search",
            "POST",
            json={"max_results": 1},
            timeout=_CONNECT_SECONDS,
            max_retries=1,
            backoff_factor=0,
            raise_on_status=False,
        )
    except MlflowException as error:
        cause = network_cause(str(error), _CONNECT_SECONDS) or one_line(str(error), 160)
        raise TrackingError(f"no tracking server answers at {redact(uri)} ({cause}); {_REMEDY}") from None
    if response.status_code in (401, 403):
        raise TrackingError(
            f"the tracking server {redact(uri)} refused access "
            f"(status {response.status_code}: {one_line(response.text, 120)}); "
            "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
        )
    if response.status_code != 200 or not response.headers.get("content-type", "").startswith(
        "application/json"
    ):
        raise TrackingError(
            f"what answers at {redact(uri)} is no working MLflow server (status {response.status_code}); "
            f"{_REMEDY}"
        )


def _is_embedded(uri: str) -> bool:
    return isinstance(sweeps_home(), Path) and uri == default_uri()


def _check_database(uri: str) -> None:
    from mlflow_server import ServerError, SettingError
    from mlflow_server.database import check_database

    if _is_embedded(uri):
        try:
            arsvd_home().mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TrackingError(
                f"the home {arsvd_home()} cannot be made a folder ({error.strerror})"
            ) from None
    try:
        check_database(uri)
    except SettingError as error:
        raise TrackingError(str(error)) from None
    except ServerError as error:
        raise TrackingError(
            f"{one_line(str(error))}; start it or make its folder, or set {URI_VARIABLE} to another one"
        ) from None
