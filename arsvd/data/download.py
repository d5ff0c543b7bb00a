"""Fetching files so that a failure leaves nothing behind that a later load would take as whole."""

from __future__ import annotations

import http.client
import os
import socket
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from arsvd.data.errors import DataError
from arsvd.data.roots import fetch_command

TIMEOUT_SECONDS = 60.0

_FAULTS = (
    OSError,
    RuntimeError,
    EOFError,
    KeyError,
    DataError,
    tarfile.TarError,
    zlib.error,
    http.client.HTTPException,
)


def fetch_unless_whole(
    name: str,
    root: Path,
    target: Path,
    read: Callable[[Path], object],
    download: Callable[[Path], Sequence[Path]],
) -> Path:
    """Download a data set's files, unless they are there and can be read.

    Args:
        name: name of the data set, for messages.
        root: data directory; created if it does not exist.
        target: folder of the files, below `root`.
        read: function that reads the files below a data directory, and raises `DataError` where they are not
            whole.
        download: function that downloads the files into another data directory, and returns their paths.

    Returns:
        `target`.

    Raises:
        DataError: network, disk or archive failed; the message gives the cause.
    """
    try:
        read(root)
    except DataError:
        with _staging(name, root, target) as stage:
            files = download(stage)
            read(stage)
            target.mkdir(parents=True, exist_ok=True)
            for file in files:
                os.replace(file, target / file.name)  # each in one step, over the old file if there is one
    return target


@contextmanager
def _staging(name: str, root: Path, target: Path) -> Iterator[Path]:
    """Make a temporary directory beside the data, on the same file system; it is removed at the end."""
    timeout = socket.getdefaulttimeout()
    try:
        root.mkdir(parents=True, exist_ok=True)
        # torchvision's downloader sets no timeout, so a silent server would block the command forever.
        socket.setdefaulttimeout(TIMEOUT_SECONDS)
        with tempfile.TemporaryDirectory(prefix=".arsvd-fetch-", dir=root) as folder:
            yield Path(folder)
    except _FAULTS as fault:
        cause = " ".join(str(fault).split()) or type(fault).__name__
        raise DataError(
            f"cannot fetch {name} into {root}: {cause}\n"
            f"No half-written file was left. Run {fetch_command(name, root)} again when this is mended, "
            f"or copy the files into {target} by hand."
        ) from fault
    finally:
        socket.setdefaulttimeout(timeout)
