"""`arsvd server` on SQLite: it answers, explains itself, and ends with everything it started."""

import os
import signal
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from mlflow_server import ServerError, ServerSettings, ends_on_signals, serve
from sweeps.cli import main


def test_it_answers_until_it_is_told_to_end(command: Callable) -> None:
    server = command(MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE="true", MLFLOW_TRACKING_URI="http://other")
    said = server.out.read_text()
    assert said.splitlines() == [
        f"MLflow is at {server.address}/#/experiments?workflowType=machine_learning - end it with Ctrl-C",
        "",
        f"export MLFLOW_TRACKING_URI={server.address}",
    ]
    assert server.err.read_text() == ""
    assert server.address.startswith("http://127.0.0.1:")
    assert server.ask("/health") == (200, "OK")
    # the environment's switch does not reach the server: names other than its own are refused
    assert server.ask("/", Host="evil.example")[0] == 403
    assert stat.S_IMODE(server.data.stat().st_mode) == 0o700
    assert {path.name for path in server.data.iterdir()} == {"artifacts", "lock", "mlflow.db", "server.log"}
    assert stat.S_IMODE((server.data / "mlflow.db").stat().st_mode) == 0o600

    with (
        pytest.raises(ServerError) as caught,
        serve(ServerSettings(server.data, port=0)),
    ):
        pytest.fail("it cannot have started")
    assert str(caught.value) == (
        f"another server (process {server.process.pid}) uses the data folder {server.data}; "
        "end it, or give --data"
    )
    assert server.ask("/health")[0] == 200

    assert len(server.processes()) >= 2
    assert server.end(signal.SIGTERM) == 0
    assert server.processes() == []
    assert server.err.read_text() == ""
    assert "Finished server process" in (server.data / "server.log").read_text()


@pytest.mark.slow
def test_it_ends_on_ctrl_c_and_with_its_parent_and_starts_again(command: Callable, tmp_path: Path) -> None:
    data = tmp_path / "data"
    for number, expected in ((signal.SIGINT, 0), (signal.SIGHUP, 0), (signal.SIGKILL, -signal.SIGKILL)):
        server = command(data=data)
        assert server.end(number) == expected
        assert server.processes() == []
    assert (data / "server.log.1").exists()


@pytest.mark.slow
def test_it_says_when_the_server_ends_by_itself(command: Callable) -> None:
    server = command()
    (pid,) = (
        p
        for p in server.processes()
        if b"mlflow_server.child\0server" in Path(f"/proc/{p}/cmdline").read_bytes()
    )
    os.kill(pid, signal.SIGTERM)
    assert server.process.wait(60) == 1
    assert "arsvd: the MLflow server ended with status 0: " in server.err.read_text()
    deadline = time.monotonic() + 60
    while server.processes() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert server.processes() == []


def test_a_signal_that_is_ignored_stays_so_and_others_end_the_context() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGTERM)}
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as `nohup` starts a process
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        passed = []
        with ends_on_signals():
            os.kill(os.getpid(), signal.SIGHUP)
            passed.append("hangup")
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
            passed.append("termination")
        assert passed == ["hangup"]
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("--db", "mysql://u:hunter2@h/db"), 2, "must start with sqlite:/// or postgresql://"),
        (
            ("--host", "203.0.113.9"),
            1,
            "203.0.113.9 port 0 cannot be served (Cannot assign requested address)",
        ),
        (("--allow-host", "*"), 2, "--allow-host '*' is no host name"),
        (("--tls-key", "x.pem"), 2, "--tls-certificate and --tls-key go together"),
        (("--artifacts", "gs://x/y"), 2, "give a folder or s3://BUCKET/PREFIX"),
        (("--db", "postgresql://u:hunter2@127.0.0.1:1/db"), 1, "is the database server running there?"),
    ],
)
def test_a_server_that_cannot_start_says_why(
    arguments: tuple[str, ...], status: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARSVD_HOME", str(tmp_path))
    done = CliRunner().invoke(main, ["server", "--port", "0", *arguments])
    assert (done.exit_code, done.stdout) == (status, "")
    assert message in done.stderr
    assert "hunter2" not in done.stderr
    assert "Traceback" not in done.stderr
