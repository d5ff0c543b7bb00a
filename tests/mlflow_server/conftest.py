"""Servers as the command starts them, and what a test asks of them."""

import base64
import contextlib
import http.client
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest

_START_SECONDS = 180.0


@dataclass
class Command:
    """`arsvd server`, started in a folder of its own.

    Attributes:
        process: the command.
        out: what it printed.
        err: what it said on stderr.
        address: where it answers.
        data: its data folder.
    """

    process: subprocess.Popen[bytes]
    out: Path
    err: Path
    data: Path
    address: str = ""
    user: tuple[str, str] | None = None
    arguments: list[str] = field(default_factory=list)

    def ask(
        self,
        path: str,
        method: str = "GET",
        body: str | None = None,
        user: tuple[str, str] | None = None,
        **headers: str,
    ) -> tuple[int, str]:
        """Send one request as nobody, or as a user with a password; returns status and text."""
        parts = urlsplit(self.address)
        connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=60)
        if user is not None:
            headers["Authorization"] = "Basic " + base64.b64encode(":".join(user).encode()).decode()
        if body is not None:
            headers.setdefault("Content-Type", "application/json")
        with contextlib.closing(connection):
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode(errors="replace")

    @property
    def admin(self) -> tuple[str, str]:
        return "admin", (self.data / "admin-password").read_text().strip()

    def processes(self) -> list[int]:
        """The command's processes, itself not counted."""
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if f"ARSVD_TEST_MARK={self.data}".encode() in path.read_bytes():
                    found.append(int(path.parent.name))
        return sorted(set(found) - {self.process.pid})

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait; returns the command's exit status."""
        self.process.send_signal(number)
        status = self.process.wait(60)
        deadline = time.monotonic() + 60
        while self.processes() and time.monotonic() < deadline:
            time.sleep(0.05)
        return status


Start = Callable[..., Command]


@pytest.fixture(scope="module")
def command() -> Iterator[Start]:
    """Start `arsvd server` with arguments, wait until it answers, end it after the module's tests.

    `command("--auth", db=URI, data=folder)`; with `fails=True` it waits for the end instead.
    """
    folders: list[Path] = []
    started: list[Command] = []

    def start(*arguments: str, data: Path | None = None, fails: bool = False, **variables: str) -> Command:
        folder = Path(tempfile.mkdtemp(prefix="arsvd-server-"))
        folders.append(folder)
        data = data or folder / "home" / "server"
        clean = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
        clean |= {"ARSVD_HOME": str(folder / "home"), "ARSVD_TEST_MARK": str(data), **variables}
        words = [str(Path(sys.executable).with_name("arsvd")), "server", "--port", "0", *arguments]
        if data != folder / "home" / "server":
            words += ["--data", str(data)]
        with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
            process = subprocess.Popen(
                words,
                cwd=folder,
                env=clean,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                # as from a terminal, also where these tests run under `nohup`
                preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
            )
        running = Command(process, folder / "out", folder / "err", data, arguments=words)
        started.append(running)
        if fails:
            process.wait(_START_SECONDS)
            return running
        deadline = time.monotonic() + _START_SECONDS
        while "export MLFLOW_TRACKING_URI=" not in running.out.read_text():
            assert process.poll() is None, running.err.read_text()
            assert time.monotonic() < deadline, (running.err.read_text(), list(data.glob("*")))
            time.sleep(0.1)
        (line,) = [line for line in running.out.read_text().splitlines() if "TRACKING_URI=" in line]
        running.address = line.partition("=")[2]
        return running

    yield start
    for running in started:
        if running.process.poll() is None:
            running.end()
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
