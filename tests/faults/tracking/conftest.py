"""MLflow servers that tests stop and start again, and a count of what is in them."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from sweeps.ledger.ledger import Ledger
from sweeps.tracking.registry import registered_versions
from sweeps.tracking.versions import choose, most_accurate, smallest

_WAIT_SECONDS = 180.0
_LONG_SECONDS = 600.0


class TrackingServer:
    """`mlflow server` on a loopback port that stays its own, on a store that outlives it.

    Attributes:
        uri: its address.
        folder: what it keeps.
    """

    def __init__(self, folder: Path, store: str | None = None, port: int | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self._store = folder, store or f"sqlite:///{folder}/mlflow.db"
        self._port = port or _free_port()
        self.uri = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(self.uri)

    def start(self, *options: str, **variables: str) -> None:
        """Start it and wait until it answers."""
        environment = {name: v for name, v in os.environ.items() if not name.startswith("MLFLOW_")}
        environment |= {
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_BACKEND_STORE_URI": self._store,
            **variables,
        }
        words = ["--host", "127.0.0.1", "--port", str(self._port), "--workers", "1"]
        words += ["--artifacts-destination", str(self.folder / "artifacts"), *options]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *words],
                cwd=self.folder,
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + _WAIT_SECONDS
        while not self._healthy():
            if self._process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the server did not start: {(self.folder / 'log').read_text()[-3000:]}")
            time.sleep(0.1)

    def stop(self, number: int = signal.SIGKILL) -> None:
        """End it and its workers."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)
        self._process.wait(_WAIT_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process = None

    def _healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


NewServer = Callable[..., TrackingServer]


@pytest.fixture
def new_server(tmp_path: Path) -> Iterator[NewServer]:
    """Make servers: `new_server("one").start()`; the same name is the same store at another address."""
    made: list[TrackingServer] = []

    def make(name: str, store: str | None = None) -> TrackingServer:
        made.append(TrackingServer(tmp_path / name, store))
        return made[-1]

    yield make
    for server in made:
        server.stop()


@pytest.fixture(scope="session")
def until_written() -> Callable[[Any], None]:
    """Wait until a member of a home's sweep is whole in MLflow."""

    def written(home: Any) -> bool:
        experiment = home.client.get_experiment_by_name("arsvd-digits") if home.filed else None
        if experiment is None:
            return False
        condition = "attributes.status = 'FINISHED'"
        runs = home.client.search_runs([experiment.experiment_id], condition, max_results=1000)
        return any("arsvd.member" in run.data.tags for run in runs)

    def wait(home: Any) -> None:
        deadline = time.monotonic() + _LONG_SECONDS
        while not written(home):
            assert time.monotonic() < deadline, "no member came to MLflow"
            time.sleep(0.3)  # asking costs the server more than writing

    return wait


@pytest.fixture(scope="session")
def ended() -> Callable[..., tuple[str, str]]:
    """Wait for the end of a command that waits for others; return what it printed on both streams."""

    def wait(process: "subprocess.Popen[str]", status: int = 0) -> tuple[str, str]:
        output, errors = process.communicate(timeout=_LONG_SECONDS)
        assert process.returncode == status, f"status {process.returncode}\n{output}\n{errors}"
        assert "Traceback" not in errors
        return output, errors

    return wait


@pytest.fixture(scope="session")
def check_once() -> Callable[[MlflowClient, Ledger], None]:
    """Check that models, progress and report of an ended sweep are in MLflow, each once."""

    def check(client: MlflowClient, ledger: Ledger) -> None:
        front, facts = ledger.front(), ledger.facts
        assert front is not None
        experiment = client.get_experiment_by_name("arsvd-digits").experiment_id
        condition = f"tags.`arsvd.sweep` = '{facts.id}'"
        runs = list(client.search_runs([experiment], condition, max_results=1000))
        (parent,) = [run for run in runs if "arsvd.member" not in run.data.tags]
        assert parent.info.status == "FINISHED"
        members = Counter(run.data.tags["arsvd.member"] for run in runs if run is not parent)
        assert members == Counter(record.key for record in ledger.members())

        history = client.get_metric_history(parent.info.run_id, "hypervolume")
        assert sorted(metric.step for metric in history) == list(range(1, len(members) + 1))
        names = {file.path for file in client.list_artifacts(parent.info.run_id)}
        assert {"sweep.yaml", "front.json", "front.html", "front.csv"} <= names

        versions = registered_versions(client, "digits")
        mine = [version for version in versions if version.sweep == facts.id]
        assert [version.params for version in mine] == [entry.point.params for entry in front.points]
        logged = client.search_logged_models([experiment], condition, max_results=100)
        assert sorted(model.model_id for model in logged) == sorted(version.model_id for version in mine)
        outputs = [output.model_id for output in parent.outputs.model_outputs]
        assert set(outputs) >= {version.model_id for version in mine}
        assert len(outputs) == len(set(outputs))
        aliases = client.get_registered_model("arsvd-digits").aliases
        wanted = {"smallest": smallest(versions), "most-accurate": most_accurate(versions)}
        wanted["best"] = choose(versions, max_drop=ledger.config.select.max_drop)
        assert {name: str(number) for name, number in aliases.items()} == {
            name: str(version.version) for name, version in wanted.items()
        }

    return check
