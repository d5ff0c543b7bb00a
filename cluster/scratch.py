"""The folder in which Ray makes its sockets, whose paths the system limits."""

import os
from pathlib import PurePath

from cluster.errors import ClusterError

_LONGEST_SOCKET = 107  # bytes that the kernel takes
# Ray appends the session, which is named after the time and its process, and the longest of its sockets.
_SOCKET = "ray/session_2026-01-01_00-00-00_000000_{pid}/sockets/plasma_store"


def check_scratch() -> None:
    """Make sure that Ray can be started here: it fails with a traceback where a socket's path is too long.

    Raises:
        ClusterError: the folder for temporary files leaves no room.
    """
    # as Ray chooses it, in `ray._common.utils.get_user_temp_dir`
    variable = next((name for name in ("RAY_TMPDIR", "TMPDIR") if name in os.environ), None)
    if variable is None:
        return
    folder = os.environ[variable]
    socket = PurePath(folder, _SOCKET.format(pid=os.getpid()))
    excess = len(os.fsencode(socket)) - _LONGEST_SOCKET
    if excess > 0:
        raise ClusterError(
            f"{variable} is {folder}, which is {excess} bytes too long for the paths of Ray's sockets: "
            "set RAY_TMPDIR to a shorter folder, such as /tmp"
        )
