"""Connect this process to a Ray cluster, its own or one that runs already."""

import contextlib
import logging
import os
import platform
from collections.abc import Iterator
from importlib.metadata import version

from cluster.addresses import ADDRESS_VARIABLE, find_address
from cluster.errors import ClusterError
from cluster.local import LastWords, callers_signals, configure_ray, hush, local_ray, reaped
from cluster.probe import Answer, ask

__all__ = ["ClusterError", "ray_session"]


@contextlib.contextmanager
def ray_session(address: str | None = None) -> Iterator[LastWords]:
    """Run Ray for as long as a sweep takes: start it here, or join a cluster as a driver.

    Joining needs a node of the cluster on this machine, the same versions of Ray and Python, and the
    cluster's token where it wants one (`RAY_AUTH_TOKEN`, `RAY_AUTH_TOKEN_PATH` or ~/.ray/auth_token). The
    cluster is left running at the end.

    Args:
        address: None starts Ray in this process; `auto` or `HOST:PORT` joins, see `find_address`.

    Returns:
        As `cluster.local.reaped` does.

    Raises:
        ClusterError: within about 15 seconds, where the cluster cannot be joined.
        RuntimeError: Ray was imported before it was configured.
    """
    if address is None:
        with local_ray() as last_words:
            yield last_words
        return
    configure_ray(address)
    found = find_address(address)
    answer = ask(address if found is None else str(found))
    _check(answer)
    import ray

    # Ray lets this variable outrank the address that it is given
    outranking = os.environ.pop(ADDRESS_VARIABLE, None)
    try:
        with callers_signals():
            ray.init(address=answer.address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError) as error:
        raise ClusterError(f"the cluster at {answer.address} cannot be joined: {error}") from error
    finally:
        if outranking is not None:
            os.environ[ADDRESS_VARIABLE] = outranking
    hush()
    with reaped() as last_words:
        try:
            yield last_words
        finally:
            ray.shutdown()


def _check(answer: Answer) -> None:
    """Refuse what Ray itself would refuse only after a minute, or with a traceback."""
    ours = (version("ray"), platform.python_version())
    theirs = (answer.ray_version, answer.python_version)
    if ours != theirs:
        raise ClusterError(
            f"the cluster at {answer.address} runs Ray {theirs[0]} on Python {theirs[1]}, this is Ray "
            f"{ours[0]} on Python {ours[1]}: use the same versions, or `arsvd submit`, which runs the sweep "
            "over there"
        )
    if not any(node.here and node.alive for node in answer.nodes):
        raise ClusterError(
            f"this machine is no node of the cluster at {answer.address}: run the sweep on one of its "
            "machines, or use `arsvd submit CONFIG --address http://HEAD:8265`"
        )
