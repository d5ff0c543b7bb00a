"""A cluster that is gone is noticed within a moment, before Ray ends the process for it."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import ray

from cluster import watch
from cluster.watch import RECONNECT_VARIABLE, watch_ray

NODE = "raylet"
CONTROL = "GCS"


@contextmanager
def listener() -> Iterator[socket.socket]:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        made.listen()
        yield made


@pytest.fixture
def ports(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, socket.socket]]:
    """What a cluster of one node listens on."""
    with listener() as node, listener() as control:
        address, port = node.getsockname()
        nodes = [
            {"NodeID": "elsewhere", "NodeManagerAddress": "192.0.2.1", "NodeManagerPort": 1},
            {"NodeID": "here", "NodeManagerAddress": address, "NodeManagerPort": port},
        ]
        context = SimpleNamespace(
            get_node_id=lambda: "here", gcs_address=f"127.0.0.1:{control.getsockname()[1]}"
        )
        monkeypatch.setattr(ray, "nodes", lambda: nodes)
        monkeypatch.setattr(ray, "get_runtime_context", lambda: context)
        monkeypatch.setattr(watch, "_SECONDS", 0.01)
        yield {NODE: node, CONTROL: control}


def told() -> tuple[Callable[[str], None], Callable[[float], str | None]]:
    causes: list[str] = []
    said = threading.Event()

    def lost(cause: str) -> None:
        causes.append(cause)
        said.set()

    def cause(seconds: float) -> str | None:
        return causes[0] if said.wait(seconds) else None

    return lost, cause


@pytest.mark.parametrize("gone", [NODE, CONTROL])
def test_the_lost_part_of_ray_is_named(
    gone: str, ports: dict[str, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(RECONNECT_VARIABLE, "30")  # as in a cluster of this process's own
    lost, cause = told()
    with watch_ray(lost):
        assert cause(0.1) is None
        ports[gone].close()
        assert gone in (cause(5.0) or "")


def test_a_control_service_that_others_may_start_again_is_waited_for(
    ports: dict[str, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(RECONNECT_VARIABLE, raising=False)
    lost, cause = told()
    with watch_ray(lost):
        ports[CONTROL].close()
        assert cause(0.2) is None
        ports[NODE].close()  # which nobody starts again
        assert NODE in (cause(5.0) or "")


def test_nothing_is_reported_after_the_end(ports: dict[str, socket.socket]) -> None:
    lost, cause = told()
    with watch_ray(lost):
        pass
    ports[NODE].close()
    assert cause(0.1) is None
