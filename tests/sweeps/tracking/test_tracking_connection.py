import errno
import fcntl
import http.server
import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweeps.tracking import TrackingError, arsvd_home, connect, connection, redact, tracking_uri


def test_home_is_absolute_and_by_default_in_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ARSVD_HOME")
    assert arsvd_home() == tmp_path / ".arsvd"
    monkeypatch.setenv("ARSVD_HOME", "elsewhere")
    assert arsvd_home() == tmp_path / "elsewhere"


@pytest.mark.parametrize("blank", ["", "  "])
def test_the_environment_names_the_server(blank: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", blank)
    assert tracking_uri() == f"sqlite:///{arsvd_home()}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://example.test:5000")
    assert tracking_uri() == "http://example.test:5000"


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("http://host:5000", "http://host:5000"),
        ("http://bob:secret@host:5000/path", "http://host:5000/path"),
        ("https://token@host", "https://host"),
        ("http://bob:se@cret@host/", "http://host/"),
        ("postgresql://bob:sec/ret@host/db", "postgresql://host/db"),
        ("postgresql+psycopg2://bob:sec@ret@host/db", "postgresql+psycopg2://host/db"),
        ("sqlite:////home/a@b/mlflow.db", "sqlite:////home/a@b/mlflow.db"),
        ("ask http://bob:secret@host/a for models:/m@best", "ask http://host/a for models:/m@best"),
        ("ftp://bob:secret@host", "ftp://host"),
        ("postgresql://db/study?user=me&password=s3cret", "postgresql://db/study?user=me&password="),
        ("https://host/a?access_token=s3cret&x=1", "https://host/a?access_token=&x=1"),
        ("postgresql://db/a?sslpassword=s&sslmode=require", "postgresql://db/a?sslpassword=&sslmode=require"),
    ],
)
def test_redact_removes_credentials_only(text: str, redacted: str) -> None:
    assert redact(text) == redacted


def test_first_use_creates_the_embedded_store_in_silence(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        client = connect()
    assert (arsvd_home() / "mlflow.db").is_file()
    assert client.search_experiments()[0].name == "Default"
    assert capfd.readouterr() == ("", "")
    assert not [record for record in caplog.records if record.name.startswith(("mlflow", "alembic"))]


def test_the_embedded_store_is_opened_on_a_file_system_without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refused)
    assert connect().search_experiments()[0].name == "Default"


class _Answer(http.server.BaseHTTPRequestHandler):
    status = 200
    content_type = "text/html"

    def do_POST(self) -> None:
        self.send_response(self.status)
        self.send_header("Content-Type", self.content_type)
        self.end_headers()
        self.wfile.write(b"who are you?")

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_CONNECT_SECONDS", 0.3)


@pytest.fixture
def closed_port() -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        yield probe.getsockname()[1]  # bound and not listening: it refuses


@pytest.fixture
def silent_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize("credentials", ["", "bob:secret@"])
def test_a_refused_connection_is_reported(credentials: str, closed_port: int) -> None:
    with pytest.raises(TrackingError, match="the connection was refused") as caught:
        connect(f"http://{credentials}127.0.0.1:{closed_port}")
    _check_message(caught.value, f"http://127.0.0.1:{closed_port}", "start the server")


@pytest.mark.usefixtures("_quick")
def test_a_server_that_never_answers(silent_port: int) -> None:
    with pytest.raises(TrackingError, match="no answer within") as caught:
        connect(f"http://bob:secret@127.0.0.1:{silent_port}")
    _check_message(caught.value, f"http://127.0.0.1:{silent_port}", "MLFLOW_TRACKING_URI")


@pytest.mark.parametrize(
    ("status", "content_type", "says"),
    [
        (200, "text/html", "no working MLflow server"),
        (404, "application/json", "no working MLflow server"),
        (401, "text/html", "MLFLOW_TRACKING_USERNAME"),
        (403, "text/html", "who are you?"),
    ],
)
def test_a_server_other_than_mlflow_is_reported(status: int, content_type: str, says: str) -> None:
    handler = type("Answer", (_Answer,), {"status": status, "content_type": content_type})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        uri = f"http://127.0.0.1:{other.server_port}"
        try:
            with pytest.raises(TrackingError) as caught:
                connect(uri.replace("//", "//bob:secret@"))
        finally:
            other.shutdown()
    _check_message(caught.value, uri, says)


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("file:///tmp/mlruns", "must start with http://"),
        ("./mlruns", "must start with http://"),
        ("databricks", "must start with http://"),
        ("sqlite:////no/such/folder/mlflow.db", "cannot be opened"),
        ("postgresql://bob:secret@127.0.0.1:9/db", "(cannot be opened|needs the driver)"),
    ],
)
@pytest.mark.usefixtures("_quick")
def test_stores_that_cannot_be_used(uri: str, says: str) -> None:
    with pytest.raises(TrackingError, match=says) as caught:
        connect(uri)
    _check_message(caught.value, redact(uri), "")


def test_an_address_that_is_none_is_not_repeated() -> None:
    with pytest.raises(TrackingError, match=r"no valid address; write .* postgresql://USER@HOST") as caught:
        connect("postgresql://bob:secret@127.0.0.1:port/db")
    _check_message(caught.value)


def test_importing_the_package_imports_no_service() -> None:
    code = (
        "import sys, sweeps.tracking, sweeps.tracking.connection as c; c.tracking_uri();"
        "print([name for name in ('mlflow', 'torch', 'ray', 'sqlalchemy') if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout.strip() == "[]"


def _check_message(error: TrackingError, *parts: str) -> None:
    message = str(error)
    assert "\n" not in message
    assert "secret" not in message
    assert "bob" not in message
    # what a traceback would print as its cause holds the address as it was given
    assert error.__cause__ is None
    assert error.__suppress_context__ or error.__context__ is None
    for part in parts:
        assert part in message
