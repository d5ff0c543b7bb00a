"""What a cluster is called, where its token is, and what is written down about a local one."""

import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.addresses import Address, find_address, has_token
from cluster.processes import ProcessId, marked, wait_until, with_descendants
from cluster.state import ClusterError, LocalCluster, Machine, read_state


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "ARSVD_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_an_address_is_host_and_port(tmp_path: Path) -> None:
    assert find_address("10.0.0.1:6379", tmp_path) == Address("10.0.0.1", 6379)
    assert find_address("head.example.org:1234", tmp_path) == Address("head.example.org", 1234)
    assert [Address(host, 1).loopback for host in ("127.0.0.1", "127.9.9.9", "localhost", "[::1]")] == [
        True
    ] * 4
    assert [Address(host, 1).loopback for host in ("10.0.0.1", "head", "0.0.0.0")] == [False] * 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("head", "'head' is no address of a cluster: give auto or HOST:PORT"),
        (":6379", "':6379' is no address of a cluster"),
        ("head:", "'head:' is no address of a cluster"),
        ("head:0", "'head:0' is no address of a cluster"),
        ("head:65536", "'head:65536' is no address of a cluster"),
        ("head:٣", "is no address of a cluster"),
        (
            "http://head:8265",
            "is the address of a dashboard, which takes jobs: `arsvd submit CONFIG --address",
        ),
        ("ray://head:10001", "is an address of Ray Client, which cannot run sweeps"),
    ],
)
def test_an_invalid_address_is_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ClusterError) as refused:
        find_address(text, tmp_path)
    assert message in str(refused.value)


def test_auto_is_the_environment_then_the_local_cluster_then_ray(
    tmp_path: Path, running_here: Callable[..., LocalCluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_address("auto", tmp_path) is None
    cluster = running_here(tmp_path, nodes=3)
    cluster.write(tmp_path)
    assert read_state(tmp_path) == cluster
    # the local cluster's token is known, by either name
    assert find_address("auto", tmp_path) == Address("127.0.0.1", 4711, cluster.token_path)
    assert find_address("127.0.0.1:4711", tmp_path) == Address("127.0.0.1", 4711, cluster.token_path)
    assert find_address("127.0.0.1:4712", tmp_path) == Address("127.0.0.1", 4712)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert find_address("auto", tmp_path) == Address("10.0.0.1", 6379)
    monkeypatch.delenv("RAY_ADDRESS")
    text = (tmp_path / "cluster.json").read_text()
    # the process that has the number now is another one
    (tmp_path / "cluster.json").write_text(text.replace(f": {cluster.supervisor.started}", ": 1"))
    assert find_address("auto", tmp_path) is None
    # since then the machine was restarted, and numbers of processes were given out anew
    dataclasses.replace(cluster, machine=Machine(cluster.machine.name, "another start")).write(tmp_path)
    assert find_address("auto", tmp_path) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"version": 1}', '{"version": 2}'])
def test_a_damaged_state_file_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "cluster.json").write_text(text)
    with pytest.raises(ClusterError, match=r"cluster\.json .*remove it if no cluster runs"):
        find_address("auto", tmp_path)


def test_a_token_is_found_where_ray_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not has_token()
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("abc\n")
    assert has_token()
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "nothing"))
    with pytest.raises(ClusterError, match=r"names .*nothing, which cannot be read \(No such file"):
        has_token()
    monkeypatch.setenv("RAY_AUTH_TOKEN", "abc")
    assert has_token()


def test_processes_are_found_by_mark_and_descent_and_never_mistaken() -> None:
    # the grandchild leaves the session and loses the mark, as Ray's workers do
    script = "import subprocess, sys; subprocess.run(['env', '-i', 'setsid', 'sleep', '300'])"
    environment = dict(os.environ) | {"ARSVD_TEST_MARK": "yes"}
    parent = subprocess.Popen([sys.executable, "-c", script], env=environment)
    try:
        roots: list[ProcessId] = []
        assert wait_until(lambda: len(with_descendants(marked("ARSVD_TEST_MARK", "yes"))) >= 2, 60)
        roots = marked("ARSVD_TEST_MARK", "yes")
        assert [process.pid for process in roots] == [parent.pid]
        family = with_descendants(roots)
        assert ProcessId(parent.pid, roots[0].started + 1).alive is False
        ProcessId(parent.pid, roots[0].started + 1).send(signal.SIGKILL)  # another process: left alone
        assert roots[0].alive
        for process in family:
            process.send(signal.SIGKILL)
        parent.wait()
        assert wait_until(lambda: not any(process.alive for process in family), 60)
        assert marked("ARSVD_TEST_MARK", "yes") == []
    finally:
        parent.kill()
        parent.wait()
