"""The state of a local cluster means its own machine, and one process at a time changes it."""

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from cluster import jobs, local, multinode
from cluster.probe import Answer, Node
from cluster.state import ClusterError, LocalCluster, Machine, read_state
from sweeps.cli import main

HERE = Machine.this()
ELSEWHERE = Machine("elsewhere", "another start")


@pytest.fixture
def written(running_here: Callable[..., LocalCluster]) -> Callable[..., LocalCluster]:
    """Write down a cluster whose supervisor is this process."""

    def write(home: Path, **changes: Any) -> LocalCluster:
        cluster = running_here(home, **changes)
        cluster.token_path.write_text("0" * 64)
        cluster.scratch.mkdir()
        cluster.write(home)
        return cluster

    return write


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Path]:
    """Starts that launch nothing: their supervisor is this process, ready after half a second."""
    launched: list[Path] = []

    def launch(scratch: Path, token_path: Path, cluster_id: str) -> Any:
        launched.append(scratch)
        return SimpleNamespace(pid=os.getpid(), terminate=lambda: None)

    def ready(supervisor: Any, scratch: Path) -> str:
        time.sleep(0.5)
        return "127.0.0.1:4711"

    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(multinode, "_launch", launch)
    monkeypatch.setattr(multinode, "_await_ready", ready)
    monkeypatch.setattr(multinode, "_scratch_parent", lambda: str(tmp_path / "scratch"))
    return launched


def test_a_machine_is_told_from_others_and_from_its_own_past() -> None:
    assert Machine.this() == HERE
    assert HERE.name
    assert HERE.boot


def test_a_cluster_of_another_machine_is_refused_and_left_alone(
    tmp_path: Path,
    launches: list[Path],
    written: Callable[..., LocalCluster],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    # by its number the supervisor would be alive here
    cluster = written(home, machine=ELSEWHERE)
    assert not cluster.running
    for command in (multinode.start, multinode.stop, multinode.status):
        with pytest.raises(ClusterError) as refused:
            command(home=home)
        assert str(refused.value) == (
            f"the cluster in {home} runs on elsewhere: end it there, or remove {home / 'cluster.json'} "
            "if that machine is gone"
        )
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    with pytest.raises(ClusterError, match="runs on elsewhere: end it there"):
        jobs.open_job_server(home=home)
    assert launches == []
    assert read_state(home) == cluster
    assert cluster.token_path.read_text() == "0" * 64
    assert cluster.scratch.is_dir()


def test_leftovers_from_before_a_reboot_are_replaced(
    tmp_path: Path, launches: list[Path], written: Callable[..., LocalCluster]
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    before = written(home, machine=Machine(HERE.name, "another start"))
    assert not before.running
    started = multinode.start(1, home=home, dashboard=False)
    assert read_state(home) == started
    assert started.running
    assert started.machine == HERE
    assert started.token_path.read_text() != "0" * 64
    assert not before.scratch.exists()


def test_one_of_two_simultaneous_starts_is_refused(tmp_path: Path, launches: list[Path]) -> None:
    home = tmp_path / "home"
    together = threading.Barrier(2)

    def start() -> LocalCluster | ClusterError:
        together.wait()
        try:
            return multinode.start(1, home=home, dashboard=False)
        except ClusterError as error:
            return error

    with ThreadPoolExecutor(2) as threads:
        ends = [one.result() for one in [threads.submit(start) for _ in range(2)]]
    (started,) = [end for end in ends if isinstance(end, LocalCluster)]
    (refused,) = [end for end in ends if isinstance(end, ClusterError)]
    assert str(refused).startswith("a cluster runs already, at 127.0.0.1:4711")
    assert launches == [started.scratch]
    assert read_state(home) == started
    assert started.token_path.exists()


def changed(**changes: Any) -> Callable[[str], str]:
    return lambda text: json.dumps({**json.loads(text), **changes})


# name: what somebody did to the state file
STRANGE: dict[str, Callable[[str], str]] = {
    "nothing": lambda text: "",
    "too deep": lambda text: "[" * 100_000,
    "thousands of digits": lambda text: "1" * 5000,
    "a list": lambda text: "[]",
    "an endless number of nodes": lambda text: text.replace('"nodes": 1', '"nodes": 1e999'),
    "a machine in words": changed(machine="here"),
    "a number as a path": changed(scratch=3),
    "half of a character": changed(address="\ud800"),
    "another version": changed(version=99),
}


@pytest.mark.parametrize("change", STRANGE.values(), ids=STRANGE)
def test_an_invalid_state_is_refused_with_the_reason(
    change: Callable[[str], str], tmp_path: Path, written: Callable[..., LocalCluster]
) -> None:
    written(tmp_path)
    path = tmp_path / "cluster.json"
    before = path.read_text()
    path.write_text(change(before))
    assert path.read_text() != before
    with pytest.raises(ClusterError, match="remove it if no cluster runs"):
        read_state(tmp_path)


def test_a_pipe_in_the_place_of_the_state_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "cluster.json")
    with pytest.raises(ClusterError, match="it is no file"):
        read_state(tmp_path)


@pytest.mark.parametrize("address", ["http://head:8265", "head:6379", ""])
def test_the_status_is_that_of_the_local_cluster(
    address: str, tmp_path: Path, written: Callable[..., LocalCluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*local._SETTINGS, *local.LOOPBACK_ONLY, "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.setenv(name, "")  # noted, so that it is put back
        monkeypatch.delenv(name)
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    monkeypatch.setenv("ARSVD_HOME", str(tmp_path))
    monkeypatch.setenv("RAY_ADDRESS", address)
    cluster = written(tmp_path)
    asked = []

    def ask(where: str) -> Answer:
        asked.append((where, os.environ["RAY_AUTH_MODE"], os.environ["RAY_AUTH_TOKEN_PATH"]))
        return Answer(where, "2", "3", (Node("a" * 40, "127.0.0.1", True, True, True, 1.0, 0.0),))

    monkeypatch.setattr(multinode, "ask", ask)
    done = CliRunner().invoke(main, ["cluster", "status"])
    assert done.exit_code == 0, done.stderr
    assert "127.0.0.1:4711: 1 of 1 nodes run" in done.stdout
    assert asked == [("127.0.0.1:4711", "token", str(cluster.token_path))]
