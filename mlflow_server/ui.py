"""Browse a tracking store on this machine."""

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

LOOPBACK = "127.0.0.1"
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
    # Its own process group: Ctrl-C reaches this process, which then ends the server and its workers.
    process = subprocess.Popen(
        command,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"},
    )
    try:
        address = f"http://{LOOPBACK}:{port}"
        _wait(process, address, wait_seconds)
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


def _wait(process: "subprocess.Popen[str]", address: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            _, errors = process.communicate()
            raise ServerError(f"the MLflow server ended with status {process.returncode}: {errors[-2000:]}")
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=2):  # noqa: S310 - our own http address
                return
        except OSError:
            time.sleep(0.2)
    raise ServerError(f"the MLflow server at {address} did not answer within {seconds:g} seconds")


def _end(process: "subprocess.Popen[str]") -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, 15)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.wait()
