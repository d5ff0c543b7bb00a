"""Ask a Ray cluster who it is, in a process of its own: `python -m cluster.probe ADDRESS`.

A process of its own, since Ray's client waits for minutes where nothing answers, and ends its process where
it has no token.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cluster.addresses import ACCESS_REMEDY, AUTO
from cluster.errors import ClusterError

_TCP_SECONDS = 4
_ANSWER_SECONDS = 12
_LOAD_SECONDS = 90  # importing Ray takes one second, on a machine at its limits many


@dataclass(frozen=True)
class Node:
    """A machine that takes part, or did.

    Attributes:
        id: id that Ray gave it.
        host: address of the node.
        alive: True if it takes part.
        head: True if the cluster's own services run there.
        here: True if it runs on this machine.
        cpus: cores that it offers.
        gpus: GPUs that it offers.
    """

    id: str
    host: str
    alive: bool
    head: bool
    here: bool
    cpus: float
    gpus: float


@dataclass(frozen=True)
class Answer:
    """What a cluster said.

    Attributes:
        address: `HOST:PORT`.
        ray_version: version of Ray there.
        python_version: version of Python there.
        nodes: alive and dead.
    """

    address: str
    ray_version: str
    python_version: str
    nodes: tuple[Node, ...]


def ask(address: str) -> Answer:
    """Ask the cluster at an address; `configure_ray(address)` comes first.

    Args:
        address: `HOST:PORT`, or `auto` for one with a node on this machine.

    Raises:
        ClusterError: nothing answers within about 15 seconds, the token is refused, or it is no cluster.
    """
    if address != AUTO:
        _knock(address)
    environment = dict(os.environ)
    room = str(Path(__file__).resolve().parents[1])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (room, environment.get("PYTHONPATH"))))
    try:
        done = subprocess.run(
            [sys.executable, "-m", "cluster.probe", address],
            env=environment,
            capture_output=True,
            text=True,
            timeout=_LOAD_SECONDS + _ANSWER_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise ClusterError(f"this machine is too busy to ask the cluster at {address}: try again") from None
    if done.returncode == -signal.SIGALRM:
        raise ClusterError(
            f"what answers at {address} is no Ray cluster, or did not say so within {_ANSWER_SECONDS} s: "
            "give the address of the head node's GCS, which is at port 6379 unless another one was chosen"
        )
    lines = done.stdout.splitlines()
    try:
        values = json.loads(lines[-1])
    except (IndexError, ValueError):
        raise ClusterError(_failure(address, done.stderr)) from None
    if "error" in values:
        raise ClusterError(_failure(address, values["error"]))
    return Answer(
        address=values["address"],
        ray_version=values["ray_version"],
        python_version=values["python_version"],
        nodes=tuple(Node(**node) for node in values["nodes"]),
    )


def _knock(address: str) -> None:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_TCP_SECONDS).close()
    except OSError as error:
        cause = error.strerror or str(error)
        raise ClusterError(
            f"no Ray cluster answers at {address} ({cause}): start it, or correct the address"
        ) from None


def _failure(address: str, text: str) -> str:
    if "couldn't find an authentication token" in text:
        return f"the cluster at {address} wants a token and there is none: {ACCESS_REMEDY}"
    if "InvalidAuthToken" in text:
        return f"the cluster at {address} refuses the token, or wants one: {ACCESS_REMEDY}"
    if "Could not find any running Ray instance" in text:
        return (
            "no Ray cluster was found on this machine: `RAY_AUTH_MODE=token ray start --head` starts one "
            "(see docs/cluster.md), --address HOST:PORT names another"
        )
    if "Found multiple active Ray instances" in text:
        return "several Ray clusters run on this machine: choose one with --address HOST:PORT"
    lines = [line for line in text.splitlines() if line.strip()] or ["no reason given"]
    return f"the cluster at {address} does not answer as Ray does: {lines[-1][:300]}"


def _answer(address: str) -> Answer:
    from ray._common.usage.usage_lib import get_cluster_metadata
    from ray._private import services
    from ray._raylet import GcsClient  # type: ignore[attr-defined]

    # from here on only the cluster can take long; the alarm ends this process, whatever it waits for
    signal.alarm(_ANSWER_SECONDS)
    where = services.canonicalize_bootstrap_address_or_die(address)
    client = GcsClient(address=where)
    facts: dict[str, Any] = get_cluster_metadata(client)
    here = services.find_node_ids()
    nodes = []
    for info in client.get_all_node_info(timeout=_ANSWER_SECONDS).values():
        offered = dict(info.resources_total)
        nodes.append(
            Node(
                id=info.node_id.hex(),
                host=info.node_manager_address,
                alive=info.state == 0,  # GcsNodeInfo.ALIVE
                head=info.is_head_node,
                here=info.node_id.hex() in here,
                cpus=offered.get("CPU", 0.0),
                gpus=offered.get("GPU", 0.0),
            )
        )
    signal.alarm(0)
    return Answer(where, facts["ray_version"], facts["python_version"], tuple(nodes))


def _main() -> None:
    # RAY_ADDRESS outranks what Ray is told; here the caller has decided
    address = sys.argv[1]
    os.environ.pop("RAY_ADDRESS", None)
    try:
        values: dict[str, Any] = asdict(_answer(address))
    except Exception as error:
        values = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(values))


if __name__ == "__main__":
    _main()
