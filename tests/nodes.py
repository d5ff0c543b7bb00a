"""Ray clusters of several nodes on this machine's loopback address, closed to who has no token.

Nodes are real: raylets, object stores and workers of their own, in processes that can be killed one by one.
What they share is the machine, so every path is shared storage here.
"""

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from cluster.local import LOOPBACK_ONLY


@dataclass(frozen=True)
class Nodes:
    """A cluster that runs.

    Attributes:
        address: `HOST:PORT` of the head node.
        dashboard: `http://HOST:PORT`; None where it was not asked for.
        scratch: folder of Ray's sessions and logs.
        token_path: file with the token.
        holder: process that all others descend from.
        raylets: one process a node, the head's first.
    """

    address: str
    dashboard: str | None
    scratch: Path
    token_path: Path
    holder: psutil.Process
    raylets: list[psutil.Process]

    @property
    def variables(self) -> dict[str, str]:
        """What leads a process to this cluster."""
        found = {"RAY_ADDRESS": self.address, "RAY_AUTH_TOKEN_PATH": str(self.token_path)}
        return found if self.dashboard is None else found | {"RAY_API_SERVER_ADDRESS": self.dashboard}

    @property
    def running(self) -> int:
        """The number of nodes that run."""
        return sum(map(alive, self.raylets))

    def processes(self, number: int) -> list[psutil.Process]:
        """List the processes of a node: its raylet, agents and workers. Node 0 is the head."""
        return family(self.raylets[number])


def family(process: psutil.Process) -> list[psutil.Process]:
    """List a process and its descendants, parents first."""
    return [process, *process.children(recursive=True)]


def alive(process: psutil.Process) -> bool:
    """Say whether a process runs; what is left of one that has ended does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def kill(processes: list[psutil.Process]) -> None:
    """End processes as a power failure does."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


@contextlib.contextmanager
def running_nodes(count: int, dashboard: bool = False) -> Iterator[Nodes]:
    """Run a cluster; every node has one core and this process's environment without Ray's settings.

    Args:
        count: number of nodes.
        dashboard: true for a head node that takes jobs.
    """
    scratch = Path(tempfile.mkdtemp(prefix="arsvd-", dir="/tmp"))  # short: Ray's sockets are in it
    token = scratch / "token"
    token.touch(0o600)
    token.write_text(secrets.token_hex(32))
    (scratch / "ray").mkdir()  # Ray notes the address there and does not make it
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= LOOPBACK_ONLY | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_raylet_start_wait_time_s": "240",  # 30 by default, which a busy machine exceeds
        "RAY_TMPDIR": str(scratch),  # where a job asks which cluster it belongs to
        # jobs say `python` and mean this one
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath))),
    }
    with (scratch / "log").open("w") as log:
        holder = subprocess.Popen(
            [sys.executable, "-P", __file__, str(count), *(["dashboard"] if dashboard else [])],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=scratch,
            start_new_session=True,
            text=True,
        )
    process = psutil.Process(holder.pid)
    try:
        ready = next((line for line in holder.stdout or () if line.startswith("{")), None)
        assert ready is not None, (scratch / "log").read_text()[-3000:]
        told = json.loads(ready)
        raylets = [psutil.Process(pid) for pid in told["raylets"]]
        yield Nodes(told["address"], told["dashboard"], scratch, token, process, raylets)
    finally:
        kill(family(process))
        holder.communicate()
        shutil.rmtree(scratch, ignore_errors=True)


def _main(count: str, dashboard: str = "") -> None:
    """Hold a cluster until standard input is closed; its processes end with this one."""
    from ray.cluster_utils import Cluster

    # a shell that starts commands in the background has them ignore Ctrl-C, and jobs would inherit that
    signal.signal(signal.SIGINT, signal.default_int_handler)
    cluster = Cluster()
    raylets = []
    for number in range(int(count)):
        # folders of their own: nodes that share one share the packages of submitted jobs, and remove them
        special: dict[str, Any] = {"temp_dir": str(Path(str(number)).absolute())}
        if number == 0:
            special = {"include_dashboard": bool(dashboard), "dashboard_host": "127.0.0.1"}
        node = cluster.add_node(
            object_store_memory=200_000_000,
            include_log_monitor=False,
            dashboard_agent_listen_port=0,  # the head's default is one port for all clusters of a machine
            **special,
        )
        raylets.append(node.all_processes["raylet"][0].process.pid)
    url = f"http://{cluster.webui_url}" if dashboard else None
    print(json.dumps({"address": cluster.address, "dashboard": url, "raylets": raylets}), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    _main(*sys.argv[1:])
