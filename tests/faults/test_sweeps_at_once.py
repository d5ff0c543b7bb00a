"""Fault 8: two sweeps at once in one home and one server; one sweep resumed twice at once."""

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sweeps.ledger.lock import LOCK

pytestmark = pytest.mark.slow


@pytest.fixture
def server(tmp_path: Path, until: Callable[..., None]) -> Iterator[str]:
    """An MLflow server in a process of its own; returns its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    store, address = tmp_path / "server", f"http://127.0.0.1:{port}"
    store.mkdir()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{store}/mlflow.db"]
    command += ["--artifacts-destination", str(store / "artifacts")]
    log = (store / "log").open("w")
    process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, cwd=store)

    def answers() -> bool:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=5) as response:
                return bool(response.status == 200)
        except OSError:
            return False

    until("the MLflow server answers", answers)
    yield address
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    log.close()


def test_two_sweeps_share_a_home_and_a_server_and_one_is_not_run_twice(
    home: Any, server: str, small: tuple[str, ...], until: Callable[..., None]
) -> None:
    home.variables["MLFLOW_TRACKING_URI"] = server
    slower = (*small, "training.epochs=100", "resources.concurrent=1")
    one = home.start("sweep", "digits", "search.trials=3", "name=one", *slower)
    two = home.start("sweep", "digits", "search.trials=3", "name=two", "search.seed=5", *slower)

    def runs() -> bool:
        return any(name.startswith("one") and home.open(name).storage.exists(LOCK) for name in home.sweeps)

    until("one is being run", runs)
    os.kill(one.pid, signal.SIGSTOP)  # on some machines it would have ended before the next command has begun
    owner = rf"sweep {home.open('one').facts.id} is being run by process {one.pid} on .+ since 20.+Z; wait"
    _, errors = home.run("resume", "one", status=2)
    assert re.search(owner, errors)
    os.kill(one.pid, signal.SIGCONT)
    assert one.poll() is None
    until("both are on file", lambda: len(home.sweeps) == 2)

    home.ended(one)
    home.ended(two)
    home.audit(home.open("one"), planned=3)
    home.audit(home.open("two"), planned=3)

    # the same sweep extended twice at once: one of them gets it
    racers = [home.start("resume", "one", "search.trials=4", "--quiet") for _ in range(2)]
    errors = [racer.communicate(timeout=240)[1] for racer in racers]
    assert sorted(racer.returncode for racer in racers) in ([0, 2], [0, 0])
    assert any("is being run by process" in text for text in errors) or all(
        racer.returncode == 0 for racer in racers
    )
    home.audit(home.open("one"), planned=4)
