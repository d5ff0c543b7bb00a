"""Where a server listens, and by which names it may be addressed."""

import contextlib
import ipaddress
import re
import socket
from collections.abc import Sequence

from mlflow_server.errors import SettingError

LOOPBACK = "127.0.0.1"
_LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")
_NAME = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")


def is_loopback(host: str) -> bool:
    """Tell whether an address can be reached only from this machine.

    Args:
        host: IP address, or a name, all of whose addresses must be loopback ones.

    Raises:
        SettingError: the name has no address.
    """
    return all(ipaddress.ip_address(address).is_loopback for address in _resolved(host))


def address(host: str, port: int, scheme: str = "http") -> str:
    """Return the URL at which a server that listens on a host is reached from this machine."""
    if _is_any(host):
        host = "::1" if ":" in host else LOOPBACK
    return f"{scheme}://{_bracketed(host)}:{port}"


def allowed_hosts(host: str, port: int, names: Sequence[str] = ()) -> list[str]:
    """Return the values of a request's Host header that the server accepts.

    A page of another site can make a browser address a server by a name that it has pointed at the server's
    address (DNS rebinding). Exact names prevent that; patterns such as 192.168.* also match names like
    192.168.example.org.

    Args:
        host: address on which the server listens.
        port: TCP port of the server.
        names: further names or addresses, with or without ports of their own.

    Raises:
        SettingError: one of the names is not a host name.
    """
    hosts = [*_LOOPBACK_NAMES]
    if _is_any(host):
        hosts += [_bracketed(own) for own in _own_names()]
    else:
        hosts.append(_bracketed(host))
    for name in names:
        if not _NAME.fullmatch(name):
            raise SettingError(
                f"--allow-host {name!r} is no host name; "
                "give a name or an address, such as mlflow.example.org or 192.0.2.7:5000"
            )
    found = []
    for name in [*hosts, *names]:
        has_port = re.search(r"[^:]:[0-9]+$", name) is not None
        # without a port as well: browsers omit ports 80 and 443, which means that a proxy is in front
        found += [name] if has_port else [f"{name}:{port}", name]
    return list(dict.fromkeys(found))


def allowed_origins(hosts: Sequence[str]) -> list[str]:
    """Return the origins whose pages may send requests to the server: its own.

    A name without a port belongs to a proxy in front of the server. A loopback name without one is another
    server of this machine, on port 80 or 443.
    """
    return [
        f"{scheme}://{host}" for host in hosts if host not in _LOOPBACK_NAMES for scheme in ("http", "https")
    ]


def _resolved(host: str) -> list[str]:
    with contextlib.suppress(ValueError):
        return [str(ipaddress.ip_address(host))]
    try:
        found = socket.getaddrinfo(host or None, None, type=socket.SOCK_STREAM) if host else []
    except OSError as error:
        raise SettingError(
            f"--host {host!r} is neither an address nor a name that is known: {error.strerror}"
        ) from None
    addresses = [str(entry[4][0]).partition("%")[0] for entry in found]
    if not addresses:
        raise SettingError(f"--host {host!r} is no address; give one of this machine, such as {LOOPBACK}")
    return addresses


def _is_any(host: str) -> bool:
    return host in ("0.0.0.0", "::")  # noqa: S104 - compared, not bound


def _own_names() -> list[str]:
    """Return this machine's name and the addresses that it has under that name."""
    name = socket.gethostname()
    names = [name]
    with contextlib.suppress(OSError):
        names += [str(entry[4][0]) for entry in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)]
    return list(dict.fromkeys(each for each in names if "%" not in each))


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
