"""Where data files lie, and the command that puts them there."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from arsvd.data.errors import DataError


def data_root(root: Path | str | None = None) -> Path:
    """Return the directory that data files are read from and downloaded to.

    Args:
        root: directory; None for the environment variable ARSVD_DATA, else `~/.cache/arsvd`.

    Returns:
        An absolute path with `~` expanded. It need not exist.

    Raises:
        DataError: the home directory cannot be found.
    """
    return absolute(root or os.environ.get("ARSVD_DATA") or "~/.cache/arsvd")


def absolute(path: Path | str) -> Path:
    """Return `path` as an absolute path, with `~` expanded and links kept.

    Raises:
        DataError: the home directory cannot be found.
    """
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError as fault:
        raise DataError(f"cannot find the directory {str(path)!r}: {fault}") from fault


def fetch_command(name: str, root: Path) -> str:
    """Return the command that fetches a data set, ready to paste into a shell."""
    return f"`arsvd data {name} --data-dir {shlex.quote(str(root))}`"
