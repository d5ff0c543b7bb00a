"""Which addresses are this machine's alone, and which names a server answers to."""

import fnmatch

import pytest

from mlflow_server import SettingError
from mlflow_server.addresses import address, allowed_hosts, allowed_origins, is_loopback


@pytest.mark.parametrize(
    ("host", "alone"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.7", False),
        ("10.0.0.1", False),
        ("169.254.0.1", False),
    ],
)
def test_only_loopback_is_alone(host: str, alone: bool) -> None:
    assert is_loopback(host) is alone


@pytest.mark.parametrize("host", ["", "no-such-name.invalid", "127.0.0.1:5000", "*"])
def test_an_invalid_address_is_named(host: str) -> None:
    with pytest.raises(SettingError, match=rf"--host '{host.replace('*', '[*]')}' is"):
        is_loopback(host)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", "http://127.0.0.1:5000"),
        ("0.0.0.0", "http://127.0.0.1:5000"),
        ("::", "http://[::1]:5000"),
        ("::1", "http://[::1]:5000"),
        ("192.0.2.7", "http://192.0.2.7:5000"),
    ],
)
def test_the_address_can_be_opened_from_here(host: str, expected: str) -> None:
    assert address(host, 5000) == expected


def test_names_are_exact_with_the_port_and_without() -> None:
    hosts = allowed_hosts(
        "192.0.2.7", 5000, ["mlflow.example.org", "other.example.org:8443", "[2001:db8::7]"]
    )
    assert hosts == [
        "127.0.0.1:5000",
        "127.0.0.1",
        "localhost:5000",
        "localhost",
        "[::1]:5000",
        "[::1]",
        "192.0.2.7:5000",
        "192.0.2.7",
        "mlflow.example.org:5000",
        "mlflow.example.org",
        "other.example.org:8443",
        "[2001:db8::7]:5000",
        "[2001:db8::7]",
    ]
    # MLflow takes an entry with a star for a pattern
    assert not any(fnmatch.fnmatch("192.168.evil.example", host) for host in hosts)
    assert not any("*" in host for host in hosts)


def test_every_address_means_this_machines_name_too() -> None:
    import socket

    hosts = allowed_hosts("0.0.0.0", 5000)
    assert f"{socket.gethostname()}:5000" in hosts
    assert "0.0.0.0" not in hosts
    assert not any("*" in host for host in hosts)


@pytest.mark.parametrize(
    "name", ["*", "*.example.org", "http://a.example", "a,b", "a b", "", "a/b", "a:port"]
)
def test_an_invalid_host_name_is_refused(name: str) -> None:
    with pytest.raises(SettingError, match=r"--allow-host .* is no host name; give a name or an address"):
        allowed_hosts("127.0.0.1", 5000, [name])


def test_other_ports_of_this_machine_are_other_origins() -> None:
    found = allowed_origins(allowed_hosts("127.0.0.1", 5000))
    assert "http://127.0.0.1:5000" in found
    assert "http://localhost:5000" in found
    for other in ("http://127.0.0.1", "http://localhost", "http://localhost:8888", "http://[::1]"):
        assert other not in found


def test_origins_are_those_of_the_allowed_hosts() -> None:
    assert allowed_origins(["a.example:5000", "a.example"]) == [
        "http://a.example:5000",
        "https://a.example:5000",
        "http://a.example",
        "https://a.example",
    ]
