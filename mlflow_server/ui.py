"""Browse a tracking store on this machine."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from typing import IO

LOOPBACK = "127.0.0.1"
# Nothing is reported to third parties, and the seven or so processes that evaluate language models stay off.
_SETTINGS = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
DEFAULT_PORT = 5000


class ServerError(RuntimeError):
    """The server did not start; the message says why."""


@contextlib.contextmanager
def serve(
    backend: str, artifacts: str, port: int = DEFAULT_PORT, wait_seconds: float = 60.0
) -> Iterator[str]:
    """Run MLflow's server on the loopback address until the context ends.

    Args:
        backend: the store's address, such as sqlite:///….
        artifacts: where new experiments would keep their files.
        port: TCP port; 0 takes a free one.
        wait_seconds: how long the server may take to answer.

    Yields:
        The server's address, once it answers.

    Raises:
        ServerError: the port is taken, or the server ended or did not answer in time.
    """
    port = _free_port(port)
    command = [sys.executable, "-m", "mlflow", "server", "--host", LOOPBACK, "--port", str(port)]
    command += ["--backend-store-uri", backend, "--default-artifact-root", artifacts, "--workers", "1"]
    # A file takes what the server says for as long as it runs; a pipe that nobody reads would stop it.
    with tempfile.TemporaryFile() as said:
        # Its own process group: Ctrl-C reaches this process, which then ends the server and its workers.
        process = subprocess.Popen(
            command,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=said,
            env=_SETTINGS | os.environ,
        )
        try:
            address = f"http://{LOOPBACK}:{port}"
            _wait(process, said, address, wait_seconds)
            yield address
        finally:
            _end(process)


def _free_port(port: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise ServerError(
                f"port {port} is taken ({error.strerror}); choose another with --port"
            ) from error
        chosen: int = probe.getsockname()[1]
    return chosen


def _wait(process: "subprocess.Popen[bytes]", said: IO[bytes], address: str, seconds: float) -> None:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy knows this machine
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            said.seek(0)
            last = said.read()[-2000:].decode(errors="replace").strip()
            raise ServerError(f"the MLflow server ended with status {process.returncode}: {last}")
        try:
            with direct.open(f"{address}/health", timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    raise ServerError(f"the MLflow server at {address} did not answer within {seconds:g} seconds")


def _end(process: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(10)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # workers that outlived it
    process.wait()
