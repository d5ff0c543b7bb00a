"""A Ray cluster of several nodes on this machine, for tests and demonstrations.

Its nodes are real: raylets, object stores and workers of their own, in processes that can be killed one by
one. What they share is the machine, so every path is shared storage here.
"""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cluster.addresses import TOKEN_PATH_VARIABLE, TOKEN_VARIABLE
from cluster.local import LOOPBACK_ONLY
from cluster.locking import alone
from cluster.probe import Node, ask
from cluster.processes import ProcessId, holding, marked, wait_until, with_descendants
from cluster.state import STATE_FILE, ClusterError, LocalCluster, Machine, default_home, read_state
from cluster.supervisor import NODE_VARIABLE

CLUSTER_VARIABLE = "ARSVD_LOCAL_CLUSTER"  # marks a cluster's processes with its id
TOKEN_FILE = "cluster-token"  # noqa: S105 - a file's name
_LOCK_FILE = "cluster.lock"
_OBJECT_STORE_BYTES = 200_000_000
_DASHBOARD_PORT = 8265
_START_SECONDS = 240  # two busy cores need 15 for three nodes
_END_SECONDS = 30
_LONGEST_SCRATCH = 30  # the kernel allows 107 characters for a socket, Ray's part of the path takes 75


@dataclass(frozen=True)
class Status:
    """A local cluster and what its nodes say.

    Attributes:
        cluster: what was started.
        nodes: dead ones too; none where the cluster does not run.
    """

    cluster: LocalCluster
    nodes: tuple[Node, ...]

    @property
    def alive(self) -> int:
        """How many nodes take part."""
        return sum(node.alive for node in self.nodes)

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "address": self.cluster.address,
            "dashboard": self.cluster.dashboard,
            "token_path": str(self.cluster.token_path),
            "started": self.cluster.nodes,
            "alive": self.alive,
            "nodes": [asdict(node) for node in self.nodes],
        }


def start(
    nodes: int = 3,
    cpus_per_node: int = 1,
    home: Path | None = None,
    dashboard: bool = True,
    dashboard_port: int | None = None,
    object_store_bytes: int = _OBJECT_STORE_BYTES,
) -> LocalCluster:
    """Start a cluster and return when every node takes part.

    Requests need a token, which is drawn here and kept in a file that only its owner can read. Clusters of
    different homes do not meet.

    Args:
        nodes: how many.
        cpus_per_node: cores that each offers; they may add up to more than the machine has.
        home: where the state file goes; `default_home()` when None.
        dashboard: whether the dashboard runs, which takes jobs; it needs `ray[default]`.
        dashboard_port: 8265, or another free one where that is taken, when None.
        object_store_bytes: shared memory of each node.

    Raises:
        ClusterError: one runs already in this home, here or on another machine, or it did not start.
    """
    if not Path("/proc/self/environ").exists():
        raise ClusterError("a local cluster of several nodes needs Linux")
    home = default_home() if home is None else home
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ClusterError(f"the home {home} cannot be made a folder ({error.strerror})") from None
    with alone(home / _LOCK_FILE):
        known = read_state(home)
        if known is not None:
            known.check_here(home)
            if known.running:
                raise ClusterError(
                    f"a cluster runs already, at {known.address}: end it with `arsvd cluster down`"
                )
            _remove(known, home)  # the machine was restarted, or its supervisor was killed
        return _start(nodes, cpus_per_node, home, dashboard, dashboard_port, object_store_bytes)


def _start(
    nodes: int,
    cpus_per_node: int,
    home: Path,
    dashboard: bool,
    dashboard_port: int | None,
    object_store_bytes: int,
) -> LocalCluster:
    token_path = home / TOKEN_FILE
    _write_token(token_path)
    cluster_id = secrets.token_hex(8)
    scratch = Path(tempfile.mkdtemp(prefix="arsvd-", dir=_scratch_parent()))
    port = _free_port(dashboard_port) if dashboard and _has_dashboard() else None
    settings = {
        "id": cluster_id,
        "nodes": nodes,
        "cpus_per_node": cpus_per_node,
        "object_store_bytes": object_store_bytes,
        "dashboard_port": port,
        "scratch": str(scratch),
    }
    (scratch / "settings.json").write_text(json.dumps(settings))
    (scratch / "ray").mkdir()  # Ray notes the address there and does not make it
    supervisor = _launch(scratch, token_path, cluster_id)
    try:
        address = _await_ready(supervisor, scratch)
        process = ProcessId.of(supervisor.pid)
        if process is None:
            raise ClusterError(f"the local cluster ended at once; its last words: {_last_words(scratch)}")
        cluster = LocalCluster(
            id=cluster_id,
            machine=Machine.this(),
            supervisor=process,
            address=address,
            dashboard=None if port is None else f"http://127.0.0.1:{port}",
            token_path=token_path,
            scratch=scratch,
            nodes=nodes,
            cpus_per_node=cpus_per_node,
        )
        cluster.write(home)
    except BaseException:
        supervisor.terminate()
        _end_left(cluster_id, scratch)
        shutil.rmtree(scratch, ignore_errors=True)
        token_path.unlink(missing_ok=True)
        raise
    return cluster


def stop(home: Path | None = None) -> LocalCluster:
    """End a cluster's processes, those of its jobs too, and no others.

    Args:
        home: where the state file is; `default_home()` when None.

    Raises:
        ClusterError: no cluster was started in this home, or one on another machine.
    """
    home = default_home() if home is None else home
    _known(home)
    with alone(home / _LOCK_FILE):
        cluster = _known(home)
        if cluster.running:  # after a restart of the machine its processes' numbers are others'
            everything = with_descendants([cluster.supervisor])
            cluster.supervisor.send(signal.SIGTERM)
            wait_until(lambda: not cluster.running, _END_SECONDS)
            for process in everything:
                process.send(signal.SIGKILL)
        _remove(cluster, home)
    return cluster


def status(home: Path | None = None) -> Status:
    """Say what became of a cluster's nodes; `configure_ray` for its address comes first.

    Args:
        home: where the state file is; `default_home()` when None.

    Raises:
        ClusterError: no cluster was started in this home, or one on another machine, or it does not answer.
    """
    cluster = _known(default_home() if home is None else home)
    return Status(cluster, ask(cluster.address).nodes if cluster.running else ())


def node_processes(cluster: LocalCluster, number: int) -> list[ProcessId]:
    """Find the processes of one node: its raylet, agents and workers. Node 0 is the head.

    To lose a node as in a power failure, send SIGKILL to all of them.
    """
    return with_descendants(marked(NODE_VARIABLE, f"{cluster.id}/{number}"))


def _known(home: Path) -> LocalCluster:
    cluster = read_state(home)
    if cluster is None:
        raise ClusterError(f"no local cluster was started in {home}: `arsvd cluster up` starts one")
    cluster.check_here(home)
    return cluster


def _remove(cluster: LocalCluster, home: Path) -> None:
    _end_left(cluster.id, cluster.scratch)
    shutil.rmtree(cluster.scratch, ignore_errors=True)
    cluster.token_path.unlink(missing_ok=True)
    (home / STATE_FILE).unlink(missing_ok=True)


def _end_left(cluster_id: str, scratch: Path) -> None:
    """End what a supervisor left behind; more than once, since a dying process may start another.

    A worker that has renamed itself shows no mark any more, but its log is in the cluster's folder. Without
    its node it ends by itself, after a minute where it was just being started.
    """

    def none_left() -> bool:
        left = [*marked(CLUSTER_VARIABLE, cluster_id), *holding(scratch)]
        for process in left:
            process.send(signal.SIGKILL)
        return not left

    wait_until(none_left, _END_SECONDS)


def _launch(scratch: Path, token_path: Path, cluster_id: str) -> "subprocess.Popen[bytes]":
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("RAY_") and name not in (TOKEN_VARIABLE, TOKEN_PATH_VARIABLE)
    }
    room = str(Path(__file__).resolve().parents[1])
    environment |= LOOPBACK_ONLY | {
        "RAY_AUTH_MODE": "token",
        TOKEN_PATH_VARIABLE: str(token_path),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_raylet_start_wait_time_s": str(_START_SECONDS),  # 30 by default, which a busy machine exceeds
        "RAY_TMPDIR": str(scratch),  # where Ray notes the cluster started last, which is not ours to change
        CLUSTER_VARIABLE: cluster_id,
        "PYTHONPATH": os.pathsep.join(filter(None, (room, environment.get("PYTHONPATH")))),
        # jobs say `python` and mean this one
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), environment.get("PATH", os.defpath))),
    }
    with (scratch / "supervisor.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "cluster.supervisor", str(scratch)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=scratch,
            start_new_session=True,
        )


def _await_ready(supervisor: "subprocess.Popen[bytes]", scratch: Path) -> str:
    ready = scratch / "ready.json"
    wait_until(lambda: ready.exists() or supervisor.poll() is not None, _START_SECONDS)
    if not ready.exists():
        ended = supervisor.poll() is not None
        what = "ended while it started" if ended else f"was not ready within {_START_SECONDS} s"
        raise ClusterError(f"the local cluster {what}; its last words: {_last_words(scratch)}")
    address: str = json.loads(ready.read_text())["address"]
    return address


def _last_words(scratch: Path) -> str:
    lines = [
        line for line in (scratch / "supervisor.log").read_text(errors="replace").splitlines() if line.strip()
    ]
    return " | ".join(lines[-3:]) or "none"


def _write_token(path: Path) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_hex(32))


def _scratch_parent() -> str:
    folder = tempfile.gettempdir()
    return folder if len(folder) <= _LONGEST_SCRATCH else "/tmp"  # noqa: S108 - mkdtemp makes it private


def _has_dashboard() -> bool:
    """Whether Ray was installed with its dashboard, which takes jobs."""
    return all(find_spec(name) is not None for name in ("aiohttp_cors", "opencensus", "prometheus_client"))


def _free_port(wanted: int | None) -> int:
    for port in (_DASHBOARD_PORT, 0) if wanted is None else (wanted,):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                if wanted is not None:
                    raise ClusterError(f"port {port} cannot be used: {error.strerror}") from None
                continue
            number: int = probe.getsockname()[1]
            return number
    raise ClusterError("no port is free for the dashboard")
