"""A cluster of three nodes for every test that needs one, and Python in processes of its own beside it."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cluster import multinode
from cluster.processes import ProcessId
from cluster.state import LocalCluster, Machine


@dataclass(frozen=True)
class Home:
    """A home with a cluster, and processes that use it.

    Attributes:
        path: ARSVD_HOME.
        cluster: what runs.
    """

    path: Path
    cluster: LocalCluster

    def environment(self, **changes: str) -> dict[str, str]:
        """This process's environment without Ray's and MLflow's settings, with this home."""
        left_out = ("RAY_", "MLFLOW_", "ARSVD_", "TUNE_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
        # nobody's own token may open or spoil anything
        return kept | {"ARSVD_HOME": str(self.path), "HOME": str(self.path), **changes}

    def python(self, script: str, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
        """Run a script."""
        return self._run(["-c", script, *arguments], changes)

    def arsvd(self, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
        """Run the command."""
        return self._run(["-m", "sweeps.cli", *arguments], changes)

    def _run(self, arguments: list[str], changes: dict[str, str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            capture_output=True,
            text=True,
            env=self.environment(**changes),
            cwd=self.path,
            timeout=420,
        )


@pytest.fixture
def running_here() -> Callable[..., LocalCluster]:
    """A cluster of a home whose supervisor is this process, so that it runs for sure; nothing may end it."""

    def make(home: Path, **changes: Any) -> LocalCluster:
        supervisor = ProcessId.of(os.getpid())
        assert supervisor is not None
        facts: dict[str, Any] = {
            "id": "0123",
            "machine": Machine.this(),
            "supervisor": supervisor,
            "address": "127.0.0.1:4711",
            "dashboard": "http://127.0.0.1:8265",
            "token_path": home / "cluster-token",
            "scratch": home / "scratch",
            "nodes": 1,
            "cpus_per_node": 1,
        }
        return LocalCluster(**{**facts, **changes})

    return make


_started: list[Path] = []


def _stop_clusters() -> None:
    while _started:
        path = _started.pop()
        if (path / "cluster.json").exists():
            multinode.stop(path)


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """End the clusters with the last test of this folder: the tests after it need the cores themselves."""
    if nextitem is None or nextitem.path.parent != item.path.parent:
        _stop_clusters()


@pytest.fixture(scope="session")
def start_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Home]]:
    """Starts clusters, which end after the last test."""

    def start(nodes: int, **settings: Any) -> Home:
        path = tmp_path_factory.mktemp("home")
        _started.append(path)
        return Home(path, multinode.start(nodes, home=path, **settings))

    yield start
    _stop_clusters()


@pytest.fixture(scope="session")
def three_nodes(start_cluster: Callable[..., Home]) -> Home:
    return start_cluster(3)
