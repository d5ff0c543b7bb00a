"""A cluster of three nodes for every test that needs one, and Python in processes of its own beside it."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.nodes import Nodes, running_nodes


@dataclass(frozen=True)
class Home:
    """A home of sweeps and a cluster, and processes that use them.

    Attributes:
        path: ARSVD_HOME.
        cluster: what runs.
    """

    path: Path
    cluster: Nodes

    def environment(self, **changes: str) -> dict[str, str]:
        """This process's environment with this home and this cluster, and no other settings."""
        left_out = ("RAY_", "MLFLOW_", "ARSVD_", "TUNE_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
        # nobody's own token may open or spoil anything
        ours = {"ARSVD_HOME": str(self.path), "HOME": str(self.path)}
        return kept | ours | self.cluster.variables | changes

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


_started = contextlib.ExitStack()


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """End the clusters with the last test of this folder: the tests after it need the cores themselves."""
    if nextitem is None or nextitem.path.parent != item.path.parent:
        _started.close()


@pytest.fixture(scope="session")
def start_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Home]]:
    """Starts clusters, which end after the last test."""

    def start(nodes: int, dashboard: bool = False) -> Home:
        cluster = _started.enter_context(running_nodes(nodes, dashboard))
        return Home(tmp_path_factory.mktemp("home"), cluster)

    yield start
    _started.close()


@pytest.fixture(scope="session")
def three_nodes(start_cluster: Callable[..., Home]) -> Home:
    return start_cluster(3, dashboard=True)
