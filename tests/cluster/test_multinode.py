"""A local cluster: real nodes on the loopback address, closed to strangers, ended without a trace."""

import json
import os
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster import multinode
from cluster.processes import ProcessId, wait_until, with_descendants
from cluster.state import LocalCluster, read_state

# A job says which cluster it belongs to.
JOB = """
import tempfile, time
from pathlib import Path
from cluster.jobs import Request, open_job_server
server = open_job_server()
job = server.submit(Request("where", ("printenv", "RAY_ADDRESS"), "where", Path(tempfile.mkdtemp()), {}))
end = time.monotonic() + 300
while not server.job(job).final and time.monotonic() < end:
    time.sleep(0.2)
print(server.job(job).status, server.logs(job).splitlines()[-1])
"""
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


def listening(processes: list[ProcessId]) -> dict[str, int]:
    """Count the listening sockets of processes by their address, as /proc writes it."""
    sockets = set()
    for process in processes:
        for link in Path(f"/proc/{process.pid}/fd").glob("*"):
            try:
                target = os.readlink(link)
            except OSError:
                continue
            if target.startswith("socket:["):
                sockets.add(target[8:-1])
    found: dict[str, int] = {}
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in sockets:
                address = fields[1].partition(":")[0]
                found[address] = found.get(address, 0) + 1
    return found


def everything(cluster: LocalCluster) -> list[ProcessId]:
    return with_descendants([cluster.supervisor])


@pytest.mark.slow
def test_a_second_cluster_comes_and_goes_beside_the_first(three_nodes: Any, tmp_path: Path) -> None:
    environment = {"ARSVD_HOME": str(tmp_path)}
    first = everything(three_nodes.cluster)
    up = three_nodes.arsvd("cluster", "up", "--nodes", "2", **environment)
    assert up.returncode == 0, up.stderr
    cluster = read_state(tmp_path)
    assert cluster is not None
    try:
        assert cluster.address != three_nodes.cluster.address
        assert cluster.dashboard != three_nodes.cluster.dashboard
        assert f"2 nodes of 1 cores run at {cluster.address}" in up.stdout
        status = json.loads(three_nodes.arsvd("cluster", "status", "--json", **environment).stdout)
        assert (status["started"], status["alive"]) == (2, 2)
        assert [node["head"] for node in status["nodes"]].count(True) == 1
        again = three_nodes.arsvd("cluster", "up", **environment)
        assert again.returncode == 2
        assert "a cluster runs already" in again.stderr
        taken = three_nodes.python(JOB, **environment)
        assert taken.stdout == f"SUCCEEDED {cluster.address}\n", taken.stderr
        second = everything(cluster)
    finally:
        down = three_nodes.arsvd("cluster", "down", **environment)
    assert down.returncode == 0, down.stderr
    assert len(second) >= 8
    assert [process for process in second if process.alive] == []
    assert [process for process in first if process.alive]  # workers may come and go, the cluster stays
    assert three_nodes.cluster.running
    assert [path.name for path in tmp_path.iterdir()] == ["cluster.lock"]
    assert not cluster.scratch.exists()
    gone = three_nodes.arsvd("cluster", "down", **environment)
    assert gone.returncode == 2
    assert "no local cluster was started" in gone.stderr


@pytest.mark.slow
def test_only_this_machine_and_only_the_owner_can_use_it(three_nodes: Any) -> None:
    cluster = three_nodes.cluster
    processes = everything(cluster)
    sockets = listening(processes)
    assert sum(sockets.values()) >= 10
    assert set(sockets) <= LOOPBACK
    token = cluster.token_path.read_text()
    assert len(token) == 64
    assert stat.S_IMODE(cluster.token_path.stat().st_mode) == 0o600
    assert token not in (three_nodes.path / "cluster.json").read_text()
    for process in processes:
        for file in ("cmdline", "environ"):
            if process.alive:
                assert token.encode() not in Path(f"/proc/{process.pid}/{file}").read_bytes()


@pytest.mark.slow
def test_leftovers_of_a_killed_supervisor_are_cleaned_up(start_cluster: Callable[..., Any]) -> None:
    home = start_cluster(1, dashboard=False)
    cluster = home.cluster
    processes = everything(cluster)
    os.kill(cluster.supervisor.pid, signal.SIGKILL)
    assert wait_until(lambda: not cluster.running, 60)
    status = home.arsvd("cluster", "status")
    assert status.returncode == 0, status.stderr
    assert "0 of 1 nodes run" in status.stdout
    assert multinode.stop(home.path) == cluster
    assert wait_until(lambda: not any(process.alive for process in processes), 60)
    assert read_state(home.path) is None
