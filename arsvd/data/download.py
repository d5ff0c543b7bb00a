"""Fetching files so that a failure leaves nothing that a later load would take as whole."""

from __future__ import annotations

import http.client
import os
import socket
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Sequence
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


@contextmanager
def staging(name: str, root: Path, target: Path) -> Iterator[Path]:
    """A temporary directory beside the data, to download to; removed at the end.

    Args:
        name: Data set, for messages.
        root: Data directory; made if it does not exist.
        target: Where the files will lie, for messages.

    Yields:
        The directory, on the file system of `root`, so that files can be moved in one step.

    Raises:
        DataError: Any fault of network, disk or archive inside the block, with its cause.
    """
    timeout = socket.getdefaulttimeout()
    try:
        root.mkdir(parents=True, exist_ok=True)
        # torchvision's downloader sets no timeout, so a silent server would hold the command for ever.
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


def install(files: Sequence[Path], target: Path) -> None:
    """Move whole, checked files into `target`, each in one step, over what is there."""
    target.mkdir(parents=True, exist_ok=True)
    for file in files:
        os.replace(file, target / file.name)
