"""What passes by itself, and what does not: the writer waits for the one and reports the other."""

import http.server
import os
import threading
from collections.abc import Iterator

import pytest
import requests
import sqlalchemy.exc
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException, RestException
from mlflow.protos import databricks_pb2 as codes

from sweeps.tracking import ServerAwayError, TrackingError, prompt_requests
from sweeps.tracking.outages import artifact_errors, tracking_errors

URI = "http://bob:secret@host:5000"


def answer(status: int) -> requests.HTTPError:
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError(f"{status} for url: {URI}/artifacts", response=response)


LOST = sqlalchemy.exc.OperationalError("select 1", {}, Exception("server closed the connection"))
DOUBLE = sqlalchemy.exc.IntegrityError("insert", {}, Exception("duplicate key"))


@pytest.mark.parametrize(
    ("error", "away", "answered"),
    [
        (MlflowException("API request to http://host failed with exception refused"), True, False),
        (MlflowException("API request to http://host: too many 503 error responses"), True, False),
        (MlflowException("API request to http://host: too many 500 error responses"), True, True),
        (MlflowException("no idea"), True, True),
        (MlflowException("locked", codes.TEMPORARILY_UNAVAILABLE), True, False),
        (MlflowException("slow down", codes.REQUEST_LIMIT_EXCEEDED), True, False),
        (MlflowException("(psycopg2.InterfaceError) closed", codes.BAD_REQUEST), True, False),
        (MlflowException("too long", codes.INVALID_PARAMETER_VALUE), False, False),
        (RestException({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no run"}), False, False),
        (RestException({"error_code": "INTERNAL_ERROR", "message": "oops"}), True, True),
        (RestException({"error_code": "PERMISSION_DENIED", "message": "no"}), False, False),
        (requests.ConnectionError("refused"), True, False),
        (requests.Timeout("slow"), True, False),
        (answer(502), True, False),
        (answer(413), False, False),
        (LOST, True, False),
        (DOUBLE, True, True),
        (sqlalchemy.exc.ProgrammingError("select", {}, Exception("no such table")), False, False),
        (
            RestException({"error_code": "BAD_REQUEST", "message": "(sqlite3.IntegrityError) UNIQUE"}),
            True,
            True,
        ),
    ],
    ids=str,
)
def test_failures_are_told_apart(error: Exception, away: bool, answered: bool) -> None:
    says = "the tracking server http://host:5000: "
    with pytest.raises(TrackingError, match=says) as caught, tracking_errors(URI):
        raise error
    assert isinstance(caught.value, ServerAwayError) == away
    if isinstance(caught.value, ServerAwayError):
        assert caught.value.answered == answered
    assert "secret" not in str(caught.value)


def test_a_full_disk_of_artifacts_may_have_room_later() -> None:
    says = "artifacts of http://host:5000 cannot be written: .*No space"
    with pytest.raises(ServerAwayError, match=says), artifact_errors(URI):
        raise OSError(28, "No space left on device")
    with pytest.raises(TrackingError, match="413") as caught, artifact_errors(URI):
        raise answer(413)
    assert not isinstance(caught.value, ServerAwayError)
    with pytest.raises(KeyError), artifact_errors(URI):  # a fault of this software is none of the server
        raise KeyError("x")


class _Answer(http.server.BaseHTTPRequestHandler):
    status = 200
    asked = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        body = b'{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such run"}'
        self.send_response(self.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def answers() -> Iterator[type[_Answer]]:
    handler = type("Answer", (_Answer,), {})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        handler.uri = f"http://127.0.0.1:{server.server_port}"  # type: ignore[attr-defined]
        yield handler
        server.shutdown()


@pytest.mark.parametrize(
    ("status", "kind", "answered"),
    [
        (404, TrackingError, None),
        (429, ServerAwayError, False),
        (500, ServerAwayError, True),
        (503, ServerAwayError, False),
    ],
)
def test_answers_of_a_server_come_at_once(
    answers: type[_Answer], status: int, kind: type[Exception], answered: bool | None
) -> None:
    answers.status = status
    uri: str = answers.uri  # type: ignore[attr-defined]
    with pytest.raises(TrackingError) as caught, prompt_requests(), tracking_errors(uri):
        MlflowClient(uri).get_run("0" * 32)
    assert type(caught.value) is kind
    assert getattr(caught.value, "answered", None) is answered
    assert answers.asked == 1  # MLflow itself would ask eight times, over minutes


def test_settings_of_the_user_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "7")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    with prompt_requests():
        assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "7"
        assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "0"
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "7"
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ
