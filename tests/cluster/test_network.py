import socket
from collections.abc import Iterator
from contextlib import closing

import pytest
import requests

from cluster.network import network_cause


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with closing(socket.socket()) as listening:
        listening.bind(("127.0.0.1", 0))
        yield listening


def cause(address: str) -> str | None:
    with pytest.raises(requests.RequestException) as caught:
        requests.get(address, timeout=0.5)
    return network_cause(str(caught.value), 0.5)


def test_causes(listener: socket.socket) -> None:
    place = f"http://127.0.0.1:{listener.getsockname()[1]}"
    assert cause(place) == "the connection was refused"  # it is bound and does not listen
    listener.listen()
    assert cause(place) == "no answer within 0.5 s"
    assert network_cause("NameResolutionError(no-such-host)", 1) == "its host name is not known"
    assert network_cause("SSLError(CERTIFICATE_VERIFY_FAILED)", 1) == "its TLS certificate is not trusted"
    assert network_cause("a cable is broken", 1) is None
