"""What a cluster is called, and where its token is."""

from pathlib import Path

import pytest

from cluster.addresses import Address, find_address, has_token
from cluster.errors import ClusterError


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "ARSVD_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_an_address_is_host_and_port() -> None:
    assert find_address("10.0.0.1:6379") == Address("10.0.0.1", 6379)
    assert find_address("head.example.org:1234") == Address("head.example.org", 1234)
    assert [Address(host, 1).loopback for host in ("127.0.0.1", "127.9.9.9", "localhost", "[::1]")] == [
        True
    ] * 4
    assert [Address(host, 1).loopback for host in ("10.0.0.1", "head", "0.0.0.0")] == [False] * 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("head", "'head' is no address of a cluster: give auto or HOST:PORT"),
        (":6379", "':6379' is no address of a cluster"),
        ("head:", "'head:' is no address of a cluster"),
        ("head:0", "'head:0' is no address of a cluster"),
        ("head:65536", "'head:65536' is no address of a cluster"),
        ("head:٣", "is no address of a cluster"),
        (
            "http://head:8265",
            "is the address of a dashboard, which takes jobs: `arsvd submit CONFIG --address",
        ),
        ("ray://head:10001", "is an address of Ray Client, which cannot run sweeps"),
    ],
)
def test_an_invalid_address_is_refused(text: str, message: str) -> None:
    with pytest.raises(ClusterError) as refused:
        find_address(text)
    assert message in str(refused.value)


def test_auto_is_the_environment_then_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_address("auto") is None
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert find_address("auto") == Address("10.0.0.1", 6379)
    assert find_address("127.0.0.1:4711") == Address("127.0.0.1", 4711)


def test_a_token_is_found_where_ray_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not has_token()
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("abc\n")
    assert has_token()
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "nothing"))
    with pytest.raises(ClusterError, match=r"names .*nothing, which cannot be read \(No such file"):
        has_token()
    monkeypatch.setenv("RAY_AUTH_TOKEN", "abc")
    assert has_token()
