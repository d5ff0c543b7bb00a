"""The clusters of the tests: no other machine reaches them."""

from ipaddress import ip_address
from typing import Any

import psutil
import pytest

from tests.nodes import family


@pytest.mark.slow
def test_every_port_of_every_node_listens_on_the_loopback_address(three_nodes: Any) -> None:
    listening = [
        socket.laddr.ip.removeprefix("::ffff:")
        for process in family(three_nodes.cluster.holder)
        for socket in process.net_connections("tcp")
        if socket.status == psutil.CONN_LISTEN
    ]
    assert len(listening) >= 10
    assert all(ip_address(address).is_loopback for address in listening), listening
