"""Fault 2: a whole worker node of a cluster is lost in mid-sweep, and every member ends finished."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest

from tests.nodes import Nodes, alive, kill, running_nodes

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


# What the cluster itself says of its nodes.
COUNT = """
import sys
from cluster.local import configure_ray
from cluster.probe import ask
configure_ray(sys.argv[1])
print(*sorted(node.alive for node in ask(sys.argv[1]).nodes))
"""


@pytest.fixture
def three_nodes(home: Any) -> Iterator[Nodes]:
    with running_nodes(3) as nodes:
        home.variables |= nodes.variables
        yield nodes


def in_training(nodes: Nodes, node: int) -> list[psutil.Process]:
    """Find a node's processes that train: Ray and Tune name them by what they do."""
    return [
        process for process in nodes.processes(node) if re.match(r"ray::\w*Trainable\.train", title(process))
    ]


def title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def states(nodes: Nodes) -> str:
    """Ask the cluster which of its nodes it holds for alive."""
    command = [sys.executable, "-c", COUNT, nodes.address]
    variables = os.environ | nodes.variables
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.slow
def test_every_member_is_finished_when_a_node_is_lost(
    three_nodes: Nodes, home: Any, until: Callable[..., None]
) -> None:
    sweep = home.start("sweep", "digits", *OVERRIDES, "--address", "auto", "--quiet")

    def ended() -> bool:
        return sweep.poll() is not None

    until("a member is on file", lambda: home.filed or ended())
    training: list[list[psutil.Process]] = []
    until(
        "a worker node trains",
        lambda: training.append(in_training(three_nodes, 1)) or training[-1] or ended(),
    )
    assert not ended(), sweep.communicate()
    assert home.filed < MEMBERS
    node = three_nodes.processes(1)
    assert len(node) >= 4  # the raylet, its two agents, the trial
    kill(node)
    home.ended(sweep)

    assert [process for process in node if alive(process)] == []
    home.audit(home.ledger, MEMBERS)
    # the other nodes are whole; the cluster takes up to half a minute to give up the lost one
    assert three_nodes.running == 2
    until("the cluster names the lost node", lambda: states(three_nodes) == "False True True")
