"""Where a Ray cluster is, and the token that opens it."""

import errno
import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

from cluster.errors import ClusterError

AUTO = "auto"
ADDRESS_VARIABLE = "RAY_ADDRESS"
TOKEN_VARIABLE = "RAY_AUTH_TOKEN"  # noqa: S105 - a variable's name
TOKEN_PATH_VARIABLE = "RAY_AUTH_TOKEN_PATH"  # noqa: S105 - a variable's name
ACCESS_REMEDY = (
    "give its token in RAY_AUTH_TOKEN, in a file that RAY_AUTH_TOKEN_PATH names, or in ~/.ray/auth_token"
)


@dataclass(frozen=True)
class Address:
    """A running cluster, as a driver on one of its machines reaches it.

    Attributes:
        host: name or address of the head node.
        port: TCP port of its GCS, 6379 unless the cluster was started with another one.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return is_loopback(self.host)


def find_address(address: str) -> Address | None:
    """Resolve what a user calls a cluster.

    Args:
        address: `HOST:PORT`, or `auto`: `RAY_ADDRESS` where it is set (Ray sets it for submitted jobs).

    Returns:
        The address; None where `auto` leaves the choice to Ray, which looks for a node on this machine.

    Raises:
        ClusterError: it is no address of a cluster.
    """
    if address == AUTO:
        address = os.environ.get(ADDRESS_VARIABLE, "").strip() or AUTO
    return None if address == AUTO else _parse(address)


def has_token(environment: dict[str, str] | None = None) -> bool:
    """Say whether Ray would find a token: in the environment, a file it names, or ~/.ray/auth_token."""
    environment = dict(os.environ) if environment is None else environment
    if environment.get(TOKEN_VARIABLE, "").strip():
        return True
    named = environment.get(TOKEN_PATH_VARIABLE, "").strip()
    path = Path(named) if named else Path("~/.ray/auth_token").expanduser()
    try:
        if path.exists() and not path.is_file():
            raise OSError(errno.EINVAL, "it is no file")  # a pipe would be waited for
        return bool(path.read_text(encoding="utf-8").strip())
    except (OSError, UnicodeDecodeError) as error:
        if named:
            reason = error.strerror if isinstance(error, OSError) else "it is no text"
            raise ClusterError(
                f"{TOKEN_PATH_VARIABLE} names {named}, which cannot be read ({reason})"
            ) from None
        return False


def is_loopback(host: str) -> bool:
    """Say whether a host's name or address is this machine's loopback."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _parse(text: str) -> Address:
    if text.startswith(("http://", "https://")):
        raise ClusterError(
            f"{text} is the address of a dashboard, which takes jobs: `arsvd submit CONFIG --address "
            f"{text}`. A sweep of this machine joins the cluster at its HOST:PORT, such as 10.0.0.1:6379"
        )
    if text.startswith("ray://"):
        raise ClusterError(
            f"{text} is an address of Ray Client, which cannot run sweeps: give HOST:PORT on a machine of "
            "the cluster, or use `arsvd submit CONFIG --address http://HEAD:8265`"
        )
    host, separator, port = text.rpartition(":")
    if not separator or not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ClusterError(
            f"{text!r} is no address of a cluster: give auto or HOST:PORT, such as 10.0.0.1:6379"
        )
    return Address(host, int(port))
