"""Fault 2: a whole worker node of a cluster is lost in mid-sweep, and every member ends finished."""

import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster import multinode
from cluster.processes import ProcessId
from cluster.state import LocalCluster

MEMBERS = 8
OVERRIDES = (
    f"search.trials={MEMBERS}",
    "resources.pack=1",
    "training.epochs=40",
    "training.batch_size=8",
    "model.hidden=[48, 24]",
    "model.reference=[48, 24]",
    "compression.families=[threshold]",
    "compression.finetune_epochs=0",
)


@pytest.fixture
def three_nodes(home: Any) -> Iterator[LocalCluster]:
    yield multinode.start(3, home=home.path, dashboard=False)
    multinode.stop(home.path)


def in_training(cluster: LocalCluster, node: int) -> list[ProcessId]:
    """Find a node's processes that train: Ray and Tune name them by what they do."""
    return [
        process
        for process in multinode.node_processes(cluster, node)
        if re.match(r"ray::\w*Trainable\.train", title(process))
    ]


def title(process: ProcessId) -> str:
    try:
        return Path(f"/proc/{process.pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


@pytest.mark.slow
def test_every_member_is_finished_when_a_node_is_lost(
    three_nodes: LocalCluster, home: Any, until: Callable[..., None]
) -> None:
    sweep = home.start("sweep", "digits", *OVERRIDES, "--address", "auto", "--quiet")

    def ended() -> bool:
        return sweep.poll() is not None

    until("a member is on file", lambda: home.filed or ended())
    training: list[list[ProcessId]] = []
    until(
        "a worker node trains",
        lambda: training.append(in_training(three_nodes, 1)) or training[-1] or ended(),
    )
    assert not ended(), sweep.communicate()
    assert home.filed < MEMBERS
    node = multinode.node_processes(three_nodes, 1)
    assert len(node) >= 4  # the raylet, its two agents, the trial
    for process in node:
        process.send(signal.SIGKILL)
    home.ended(sweep)

    assert [process for process in node if process.alive] == []
    home.audit(home.ledger, MEMBERS)
    # the cluster noticed as well, and the other nodes are whole
    assert three_nodes.running
    status, _ = home.run("cluster", "status")
    assert "2 of 3 nodes run" in status
