"""The tracking server for browsing: on loopback, for as long as its context, and clear where it fails."""

import json
import socket
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mlflow_server import ServerError
from mlflow_server.ui import browse

# Stands in for `python -m mlflow_server.child server`: takes the same arguments and does what a test wants.
STUB = """#!{python}
import http.server, os, sys, time
port = int(sys.argv[sys.argv.index("--port") + 1])
class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        sys.stderr.write("a long line of a log\\n" * 50_000)
        sys.stderr.flush()
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()
        self.wfile.write(" ".join(sys.argv[1:]).encode())
{behaviour}
"""
SERVING = 'http.server.HTTPServer(("127.0.0.1", port), Health).serve_forever()'


@pytest.fixture(autouse=True)
def _direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Replaces the server; lists the processes that were started."""
    started: list[int] = []
    real = subprocess.Popen

    class Noted(real):  # type: ignore[misc, valid-type]
        def __init__(self, *arguments: object, **keywords: object) -> None:
            super().__init__(*arguments, **keywords)
            started.append(self.pid)

    monkeypatch.setattr(subprocess, "Popen", Noted)
    return started


def install(folder: Path, behaviour: str, patch: pytest.MonkeyPatch) -> None:
    script = folder / "python"
    script.write_text(STUB.format(python=sys.executable, behaviour=behaviour))
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    patch.setattr(sys, "executable", str(script))


def get(address: str) -> str:
    with urllib.request.urlopen(address, timeout=10) as answer:
        return str(answer.read().decode())


def post(address: str, method: str = "POST", **body: str) -> int:
    """Send a request as any page or program of this machine can; returns the status."""
    request = urllib.request.Request(
        address, json.dumps(body).encode(), {"Content-Type": "application/json"}, method=method
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def put(address: str) -> int:
    return post(address, "PUT")


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


@contextmanager
def taken_port() -> Iterator[int]:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]


def group_is_gone(group: int) -> bool:
    """Whether no process of a group runs any more; the killed may wait for a parent to take note."""
    for _ in range(100):
        running = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                state, _, its_group, *_ = path.read_text().rpartition(")")[2].split()
            except OSError:
                continue  # ended in between
            if int(its_group) == group and state != "Z":
                running.append(path)
        if not running:
            return True
        time.sleep(0.05)
    return False


def test_mlflow_answers_on_loopback_until_the_context_ends(tmp_path: Path, stub: list[int]) -> None:
    with browse(f"sqlite:///{tmp_path / 'mlflow.db'}", str(tmp_path / "artifacts"), 0) as server:
        address = server.address
        host, _, port = address.removeprefix("http://").partition(":")
        assert host == "127.0.0.1"
        assert get(f"{address}/health") == "OK"
        page = get(address)
        assert "<title>MLflow</title>" in page
        assert page.index("mlflow\\\\.workflowType_v1") < page.index("<script defer")
        assert get(f"{address}/ajax-api/2.0/mlflow/gateway-proxy?gateway_path=x") == '{"endpoints": []}'
        assert listening_addresses(int(port)) == {"0100007F"}
        (pid,) = stub
        where = tmp_path / "elsewhere"
        assert (
            post(f"{address}/api/2.0/mlflow/experiments/create", name="a", artifact_location=str(where))
            == 400
        )
        assert post(f"{address}/api/2.0/mlflow/experiments/create", name="b") == 200
        for origin in (address, f"http://localhost:{port}"):
            assert asked_by_a_page(address, origin) == 200
        for origin in ("http://localhost:8888", "http://127.0.0.1:8080", "http://localhost", "null"):
            assert asked_by_a_page(address, origin) == 403, origin
        # MLflow serves a folder of the current directory for writing unless told otherwise
        assert put(f"{address}/api/2.0/mlflow-artifacts/artifacts/x/y") == 503
        assert post(f"{address}/ajax-api/3.0/mlflow/demo/generate") == 404
        assert not where.exists()
        assert not Path("mlartifacts").exists()
    assert is_free(int(port))
    assert group_is_gone(pid)
    with pytest.raises(urllib.error.URLError):
        get(f"{address}/health")


def asked_by_a_page(address: str, origin: str) -> int:
    """The status that a page of an origin gets for a change."""
    request = urllib.request.Request(
        f"{address}/api/2.0/mlflow/experiments/search",
        json.dumps({"max_results": 1}).encode(),
        {"Content-Type": "application/json", "Origin": origin},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def listening_addresses(port: int) -> set[str]:
    """The local addresses, as the kernel writes them, on which a port is open."""
    found = set()
    for table in ("tcp", "tcp6"):
        path = Path("/proc/net") / table
        for line in path.read_text().splitlines()[1:] if path.exists() else []:
            _, local, _, state, *_ = line.split()
            address, _, number = local.partition(":")
            if state == "0A" and int(number, 16) == port:
                found.add(address)
    return found


def test_a_taken_port_is_refused_before_anything_starts(tmp_path: Path, stub: list[int]) -> None:
    with (
        taken_port() as port,
        pytest.raises(ServerError, match=rf"port {port} is taken \(.*\); choose another with --port"),
        browse(f"sqlite:///{tmp_path / 'mlflow.db'}", str(tmp_path), port),
    ):
        pytest.fail("it cannot have started")
    assert stub == []
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_says_much_goes_on_answering(
    tmp_path: Path, stub: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, SERVING, monkeypatch)
    with browse("sqlite:///x", "files", 0) as server:
        for _ in range(3):  # a megabyte to stderr each time, more than any pipe holds
            said = get(f"{server.address}/health")
    assert said.startswith("-m mlflow_server.child server --app-name arsvd --host 127.0.0.1 --port ")
    assert "--default-artifact-root files" in said
    assert "sqlite" not in said  # a database's address may hold a password, and everyone reads command lines
    assert group_is_gone(stub[0])


def test_a_proxy_is_not_asked_for_this_machine(
    tmp_path: Path, stub: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, SERVING, monkeypatch)
    monkeypatch.delenv("no_proxy")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # nobody is there
    with browse("sqlite:///x", "files", 0, wait_seconds=30) as server:
        assert server.address.startswith("http://127.0.0.1:")


def test_a_server_that_ends_early_is_told_with_the_end_of_what_it_said(
    tmp_path: Path, stub: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    behaviour = 'sys.stderr.write("x" * 100_000 + "\\nno such revision\\n"); sys.exit(3)'
    install(tmp_path, behaviour, monkeypatch)
    with pytest.raises(ServerError) as caught, browse("sqlite:///x", "files", 0):
        pytest.fail("it cannot have started")
    text = str(caught.value)
    assert text.startswith("the MLflow server ended with status 3: xxx")
    assert text.endswith("no such revision")
    assert len(text) < 2100


def test_a_server_that_never_answers_is_ended(
    tmp_path: Path, stub: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "os.fork(); time.sleep(600)", monkeypatch)
    with (
        pytest.raises(ServerError, match=r"at http://127\.0\.0\.1:\d+ did not answer within 0\.5 seconds"),
        browse("sqlite:///x", "files", 0, wait_seconds=0.5),
    ):
        pytest.fail("it cannot have started")
    assert group_is_gone(stub[0])


def test_a_server_that_will_not_end_is_killed_with_its_workers(
    tmp_path: Path, stub: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    deaf = (
        "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN if os.fork() == 0 else signal.SIG_DFL)\n"
    )
    install(tmp_path, deaf + SERVING.replace("port", "port + (os.getpid() != os.getpgrp())"), monkeypatch)

    class StoppedError(Exception):
        pass

    with pytest.raises(StoppedError), browse("sqlite:///x", "files", 0):
        raise StoppedError
    assert group_is_gone(stub[0])
