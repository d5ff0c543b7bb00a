"""Notice early that this process has lost its cluster; Ray waits, then ends the process without a word."""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator

RECONNECT_VARIABLE = "RAY_gcs_rpc_server_reconnect_timeout_s"
_RECONNECT_SECONDS = 60.0  # Ray's default: so long after the control service is gone it ends its processes
_SECONDS = 1.0  # between two looks
_CONNECT_SECONDS = 5.0
_END_SECONDS = 30.0  # to end a sweep in order


@contextlib.contextmanager
def watch_ray(lost: Callable[[str], None]) -> Iterator[None]:
    """Tell once, from a thread of its own, when the cluster that this process has joined is gone.

    A node manager that is gone does not come back, so that is told within about a second. The control service
    of a cluster may be started again: it may be away for as long as Ray itself gives it, less the time to end
    what this process does.

    Args:
        lost: function that is told what is gone.
    """
    import ray

    context = ray.get_runtime_context()
    here = next(node for node in ray.nodes() if node["NodeID"] == context.get_node_id())
    node = (here["NodeManagerAddress"], here["NodeManagerPort"])
    host, _, port = context.gcs_address.rpartition(":")
    patience = max(0.0, float(os.environ.get(RECONNECT_VARIABLE, _RECONNECT_SECONDS)) - _END_SECONDS)
    ended = threading.Event()
    arguments = (node, (host.strip("[]"), int(port)), patience, lost, ended)
    threading.Thread(target=_watch, args=arguments, name="ray-watch", daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def _watch(
    node: tuple[str, int],
    control: tuple[str, int],
    patience: float,
    lost: Callable[[str], None],
    ended: threading.Event,
) -> None:
    answered, cause = time.monotonic(), None
    while cause is None and not ended.wait(_SECONDS):
        if isinstance(_refusal(node), ConnectionRefusedError):  # not a timeout: the machine may be busy
            cause = "Ray's node manager (raylet) on this machine has ended"
        elif _refusal(control) is None:
            answered = time.monotonic()
        elif time.monotonic() - answered > patience:
            cause = "Ray's control service (GCS) does not answer"
    if cause is not None and not ended.is_set():  # Ray is ended right after the block
        lost(cause)


def _refusal(address: tuple[str, int]) -> OSError | None:
    """Knock at a port; return why nobody opened."""
    try:
        socket.create_connection(address, _CONNECT_SECONDS).close()
    except OSError as error:
        return error
    return None
