"""What can go wrong with a tracking server, and whether it resolves itself."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from cluster.secrecy import SECRET_OPTION

# Statuses that ask for patience, besides all of 5xx.
_LATER = (408, 429)
# A database that was lost behind the server is reported to the client as a refusal, 400: only an operational
# error can be recognised there. So is a transaction that the lost connection left behind.
_LOST_CONNECTION = re.compile(
    r"psycopg2?\.(Operational|Interface|Database)Error|connection already closed|until invalid transaction"
)
# Two writers created the same row at once, such as that of a data set; the second finds it on a retry.
_COLLISION = re.compile(r"IntegrityError|UniqueViolation|Duplicate entry")
# MLflow's words for a request that got no answer; with a status in it, there was an answer and it was bad.
_NO_ANSWER = "API request to http"
# SQLAlchemy also takes passwords as options of an address.
_SECRET_OPTION = re.compile(rf"({SECRET_OPTION})[^&\s]*", re.IGNORECASE)
_CLOUD_STORAGE = ("azure", "boto3", "botocore", "google", "s3transfer")


class TrackingError(ConnectionError):
    """The tracking server cannot be reached or refused a request. The message holds no credentials."""


class ServerAwayError(TrackingError):
    """The tracking server is away, or says that it cannot answer now: the same request may succeed later.

    Whether a request that failed this way was carried out is not known.

    Attributes:
        answered: True if the server did answer, with an internal error, which may concern this one request
            only.
    """

    def __init__(self, message: str, answered: bool = False) -> None:
        super().__init__(message)
        self.answered = answered


def redact(text: str) -> str:
    """Remove user and password from every address of a server or database in a text."""
    text = _SECRET_OPTION.sub(r"\1", text)
    # A URL's user part ends at the last @ before the first slash. SQLAlchemy is laxer: its passwords may hold
    # slashes, and end at the first @ (yet one that holds an @ must not leak its second half).
    text = re.sub(r"(://)[^/\s]*@", r"\1", text)
    return re.sub(r"((?:postgresql|postgres|mysql|mssql)(?:\+\w+)?://)[^@\s]*@(?:[^/@\s]*@)*", r"\1", text)


def one_line(text: str, limit: int = 300) -> str:
    """Return a text without credentials and line ends, cut at a length."""
    line = " ".join(redact(text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def is_collision(error: Exception) -> bool:
    """Tell whether a request failed because somebody else did the same at the same time."""
    return _COLLISION.search(f"{type(error).__name__}: {error}") is not None


@contextmanager
def tracking_errors(uri: str) -> Iterator[None]:
    """Turn every error of MLflow in the block into a `TrackingError` with the server and no credentials.

    Raises:
        ServerAwayError: the failure may resolve itself.
        TrackingError: the server refused.
    """
    import requests
    import sqlalchemy.exc
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, requests.RequestException, sqlalchemy.exc.SQLAlchemyError) as error:
        text = str(error)
        message = f"the tracking server {redact(uri)}: {one_line(text)}"
        status = _status(error)
        collided = is_collision(error)
        later = status is None or status >= 500 or status in _LATER or _LOST_CONNECTION.search(text)
        if not later and not collided:
            raise TrackingError(message) from None
        failed = status == 500 and (not text.startswith(_NO_ANSWER) or "too many 500" in text)
        answered = failed or collided
        raise ServerAwayError(message, answered) from None


@contextmanager
def artifact_errors(uri: str) -> Iterator[None]:
    """Do the same for an upload of files, which may go to a disk or a bucket that the server only names.

    Raises:
        ServerAwayError: the files cannot be written now. A full disk may have space later.
    """
    import requests

    with tracking_errors(uri):
        try:
            yield
        except (TrackingError, requests.RequestException):
            raise
        except Exception as error:
            # each cloud's client has its own errors, which cannot be imported where it is not installed
            if not isinstance(error, OSError) and type(error).__module__.split(".")[0] not in _CLOUD_STORAGE:
                raise
            raise ServerAwayError(
                f"the artifacts of {redact(uri)} cannot be written: {one_line(str(error))}", answered=True
            ) from None


def _status(error: Exception) -> int | None:
    """Return the HTTP status that a failure amounts to; None where there was no answer."""
    import requests
    import sqlalchemy.exc
    from mlflow.exceptions import MlflowException

    if isinstance(error, MlflowException):
        return int(error.get_http_status_code())
    if isinstance(error, requests.RequestException):
        return None if error.response is None else int(error.response.status_code)
    lost = isinstance(error, sqlalchemy.exc.DBAPIError) and error.connection_invalidated
    passing = (sqlalchemy.exc.OperationalError, sqlalchemy.exc.InterfaceError, sqlalchemy.exc.TimeoutError)
    return None if lost or isinstance(error, passing) else 400
