"""Browse a tracking store on this machine."""

import contextlib
import sys
import tempfile
from collections.abc import Iterator

from mlflow_server.addresses import LOOPBACK, address, allowed_hosts, allowed_origins
from mlflow_server.environment import child_environment
from mlflow_server.process import Server, free_port, running, wait_until_healthy
from mlflow_server.settings import DEFAULT_PORT


@contextlib.contextmanager
def browse(
    backend: str, artifacts: str, port: int = DEFAULT_PORT, wait_seconds: float = 60.0
) -> Iterator[Server]:
    """Run MLflow's server on a store of this machine, on the loopback address, until the context ends.

    Unlike `serve` it keeps nothing of its own, and runs name their files by this machine's paths.

    Args:
        backend: address of the store, such as sqlite:///….
        artifacts: location of the files of new experiments.
        port: TCP port; 0 takes a free one.
        wait_seconds: seconds that the server may take to answer.

    Yields:
        The server, once it answers.

    Raises:
        ServerError: the port is taken, or the server ended or did not answer in time.
    """
    port = free_port(LOOPBACK, port)
    hosts = allowed_hosts(LOOPBACK, port)
    command = [sys.executable, "-m", "mlflow_server.child", "server", "--app-name", "arsvd"]
    command += ["--host", LOOPBACK, "--port", str(port)]
    # Otherwise MLflow would serve, and write for any client, a folder `mlartifacts` in the current directory.
    command += ["--no-serve-artifacts", "--default-artifact-root", artifacts]
    command += ["--workers", "1", "--uvicorn-opts", "--no-access-log"]
    command += [
        "--allowed-hosts",
        ",".join(hosts),
        "--cors-allowed-origins",
        ",".join(allowed_origins(hosts)),
    ]
    environment = child_environment() | {"MLFLOW_BACKEND_STORE_URI": backend}
    with tempfile.TemporaryFile() as log, running(command, environment, log) as process:
        own = address(LOOPBACK, port)
        wait_until_healthy(process, log, own, wait_seconds)
        yield Server(own, None, (), process, log)
