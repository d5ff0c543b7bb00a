"""Ctrl-C in the middle of a sweep: once ends it in order, twice ends it at once."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

AT_ONCE = 130  # exit status of a process that Ctrl-C ended
_NOTE = b"\nending the sweep in order; Ctrl-C again ends it at once\n"


class Interruption:
    """Whether somebody asked the sweep to end.

    Attributes:
        requested: set by the first SIGINT or SIGTERM.
    """

    def __init__(self) -> None:
        self.requested = False

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            # Nothing is waited for and nothing is lost: the ledger's files are whole at any moment, Ray's
            # processes end with this one, and the lock of a process that is gone is taken over.
            os._exit(AT_ONCE)
        self.requested = True
        with contextlib.suppress(OSError):
            os.write(sys.stderr.fileno(), _NOTE)  # a print could meet itself half-way in a signal handler


@contextlib.contextmanager
def watch_signals() -> Iterator[Interruption]:
    """Take SIGINT and SIGTERM while the block runs; on another thread than the main one, take none."""
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number in before:
            signal.signal(number, interruption._signalled)
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
