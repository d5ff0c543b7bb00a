"""Locks of files, which end with their process however that ends."""

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock

_WITHOUT_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL)  # how file systems say so


def acquire(path: Path, timeout: float = -1) -> FileLock:
    """Lock a file, which is made where it is missing.

    Args:
        path: the file.
        timeout: seconds to wait for another process; below 0 without end.

    Returns:
        The lock, for its `release`. It is not locked where the file system has no locks.

    Raises:
        Timeout: another process holds it.
        OSError: the file cannot be opened.
    """
    lock = FileLock(path, timeout=timeout)
    try:
        lock.acquire()
    except OSError as error:
        if error.errno not in _WITHOUT_LOCKS:
            raise
    return lock


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Let one process at a time do what is inside; the others wait.

    The file stays: where it was removed, one process could hold the old one and another a new one. On a file
    system without locks nobody waits, which is as safe as it can be there.

    Args:
        path: the file that is locked.

    Raises:
        OSError: the file cannot be opened.
    """
    lock = acquire(path)
    try:
        yield
    finally:
        lock.release()
