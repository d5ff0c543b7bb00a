"""One server process: started, watched, and ended with everything that it started."""

import contextlib
import ctypes
import os
import shlex
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from mlflow_server.errors import ServerError

_TOLD_BYTES = 2000
_ORDERLY_SECONDS = 10
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Server:
    """A server that is running.

    Attributes:
        address: URL at which it answers, such as http://127.0.0.1:5000.
        password_file: file of the administrator's password; None without authentication.
        notices: sentences that its operator should know.
        process: process of the server; its group holds the workers too.
        log: file that the process writes to.
    """

    address: str
    password_file: Path | None
    notices: tuple[str, ...]
    process: "subprocess.Popen[bytes]"
    log: IO[bytes]

    @property
    def page(self) -> str:
        """Address of the experiments page in the web interface."""
        return f"{self.address}/#/experiments?workflowType=machine_learning"

    def introduction(self) -> str:
        """Say where the server is and how to use it, without the password."""
        lines = [
            f"MLflow is at {self.page} - end it with Ctrl-C",
            "",
            f"export MLFLOW_TRACKING_URI={self.address}",
        ]
        if self.password_file is not None:
            lines += [
                "export MLFLOW_TRACKING_USERNAME=admin",
                f'export MLFLOW_TRACKING_PASSWORD="$(cat {shlex.quote(str(self.password_file))})"',
            ]
        return "\n".join(lines)

    def watch(self) -> None:
        """Wait until the server ends by itself; never returns normally.

        Raises:
            ServerError: the server ended; the message has the last lines that it wrote.
        """
        self.process.wait()
        raise ServerError(_ended(self.process, self.log))


@contextlib.contextmanager
def running(
    command: Sequence[str],
    environment: Mapping[str, str],
    log: IO[bytes],
    folder: Path | None = None,
    private: bool = False,
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a command in a process group of its own, and end the whole group with the context.

    Args:
        command: program and its arguments.
        environment: complete environment of the program.
        log: file that takes its output; a pipe that nobody reads would block it.
        folder: working directory of the program; None for this process's own.
        private: True if only this user may read the files that it creates.

    If this process is killed, the server ends as well; it also ends with the thread that started it.
    """
    process = subprocess.Popen(
        command,
        # Its own group: Ctrl-C reaches this process, which then ends the server and its workers.
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        cwd=folder,
        env=dict(environment),
        umask=0o077 if private else -1,
        preexec_fn=_follow_parent(),
    )
    try:
        yield process
    finally:
        _end(process)


def wait_until_healthy(
    process: "subprocess.Popen[bytes]", log: IO[bytes], address: str, seconds: float
) -> None:
    """Return once the server's health check answers.

    Raises:
        ServerError: the server ended, or did not answer in time.
    """
    opener = direct_opener()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ServerError(_ended(process, log))
        try:
            with opener.open(f"{address}/health", timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    raise ServerError(
        f"the MLflow server at {address} did not answer within {seconds:g} seconds{_told(log, '; it said: ')}"
    )


def direct_opener() -> urllib.request.OpenerDirector:
    """Return an opener for this machine: no proxy knows it, and its certificate names another address."""
    unverified = ssl.create_default_context()
    unverified.check_hostname = False
    unverified.verify_mode = ssl.CERT_NONE
    return urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=unverified)
    )


def free_port(host: str, port: int) -> int:
    """Return a port that can be bound: the given one, or any where it is 0.

    Raises:
        ServerError: the port is taken, or the address is not one of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ServerError(
                f"port {port} is taken ({error.strerror}); choose another with --port"
                if port and host in ("127.0.0.1", "::1", "localhost")
                else f"{host} port {port} cannot be served ({error.strerror}); "
                "choose another with --host and --port"
            ) from error
        chosen: int = probe.getsockname()[1]
    return chosen


@contextlib.contextmanager
def ends_on_signals() -> Iterator[None]:
    """Leave the context in order, with all that it holds, on Ctrl-C, SIGTERM or a closed terminal.

    A signal that this process was started to ignore stays ignored: `nohup` means it.
    """

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    taken = [one for one in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(one) != signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in taken}
    try:
        with contextlib.suppress(KeyboardInterrupt):
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _follow_parent() -> Callable[[], None] | None:
    """Return a hook that ends a child when this process is killed and cannot end it (Linux only)."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)  # loaded before the fork

    def ask() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

    return ask


def _ended(process: "subprocess.Popen[bytes]", log: IO[bytes]) -> str:
    return f"the MLflow server ended with status {process.returncode}{_told(log, ': ')}"


def _told(log: IO[bytes], lead: str) -> str:
    """Return the end of a process's output. Read by position: the process shares this file's offset."""
    size = os.fstat(log.fileno()).st_size
    read = os.pread(log.fileno(), _TOLD_BYTES, max(0, size - _TOLD_BYTES))
    text = read.decode(errors="replace").strip()
    return f"{lead}{text}" if text else ""


def _end(process: "subprocess.Popen[bytes]") -> None:
    try:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_ORDERLY_SECONDS)
    finally:  # also when a second Ctrl-C cuts the wait short
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # workers that outlived it
        process.wait()
