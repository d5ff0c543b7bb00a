"""Whoever ends a sweep early: Ctrl-C, SIGTERM, a closed terminal, or a cluster that is gone."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

AT_ONCE = 130  # exit status of a process that Ctrl-C ended
STUCK = 1  # and of one whose main thread hangs in a cluster that is gone
# For the main thread to begin with the end, and to be done with it: 30 seconds after the loss Ray would end
# this process without a word.
_BEGIN_SECONDS, _END_SECONDS = 5.0, 15.0
_SHOW_CURSOR = "\x1b[?25h"  # a bar has hidden it
_NOTE = "\nending the sweep in order; Ctrl-C again ends it at once\n"


class Interruption:
    """Whether somebody asked the sweep to end.

    Attributes:
        requested: set by the first SIGINT, SIGTERM or SIGHUP, and by `lose`.
        lost: how the cluster was lost; None while nobody says so.
        signalled: whether a signal came first.
        last_words: takes what another process is to say where this one ends without a word.
    """

    def __init__(self) -> None:
        self.requested = self.signalled = False
        self.lost: str | None = None
        self.last_words: Callable[[str], None] = lambda words: None
        self._resume: str | None = None
        self._awaited = self._watching = self._raised = False
        self._rescue: Callable[[], None] = lambda: None
        self._ending, self._ended = threading.Event(), threading.Event()

    @property
    def words(self) -> str:
        """Why the sweep ended, and how it goes on."""
        cause = "it was interrupted" if self.signalled or self.lost is None else self.lost
        return f"the sweep was stopped: {cause}; go on with: {self._resume}"

    @contextlib.contextmanager
    def sweep(self, resume: str) -> Iterator[None]:
        """Run a sweep that is on file.

        Args:
            resume: the command that goes on with it.
        """
        self._resume = resume
        self.last_words(f"arsvd: the process of the sweep was ended; go on with: {resume}")
        try:
            yield
        finally:
            self.last_words("")
            self._ending.set()
            self._ended.set()

    @contextlib.contextmanager
    def ending(self, rescue: Callable[[], None]) -> Iterator[None]:
        """Run what `rescue` ends.

        Args:
            rescue: ends it in order from another thread, where the main one hangs in a cluster that is gone.
        """
        self._rescue = rescue
        try:
            yield
        finally:
            self._ending.set()

    @contextlib.contextmanager
    def awaited(self) -> Iterator[None]:
        """Leave it to the block to look at `requested`; elsewhere a signal raises KeyboardInterrupt."""
        self._awaited = True
        try:
            yield
        finally:
            self._awaited = False

    def lose(self, cause: str) -> None:
        """End the sweep, from another thread than the main one, since its cluster is gone.

        The main thread may wait for the cluster, so it is interrupted whatever it does. Where that does not
        help, or the sweep was to end already and waits now, this thread ends it, and the process.

        Args:
            cause: what is gone.
        """
        if self._ended.is_set():
            return
        self.lost = cause
        if not self._watching:
            self.requested = True
            return
        if not self.requested:
            self.requested = True
            os.kill(os.getpid(), signal.SIGTERM)
        if not self._ending.wait(_BEGIN_SECONDS):
            with contextlib.suppress(Exception):  # the line that resumes comes whatever happens
                self._rescue()
        elif self._ended.wait(_END_SECONDS):
            return
        self._exit(AT_ONCE if self.signalled else STUCK, self.words)

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        if not self.requested:
            self.requested = self.signalled = True
            _say(_NOTE)
            if not self._awaited:
                raise KeyboardInterrupt
        elif self.lost is not None and not self.signalled and not self._raised:
            self._raised = True
            raise KeyboardInterrupt
        elif number != signal.SIGHUP:  # a terminal that closes sends several
            # Nothing is waited for and nothing is lost: the ledger's files are whole at any moment, Ray's
            # processes end with this one, and the lock of a process that is gone is taken over.
            self._exit(AT_ONCE, f"go on with: {self._resume}" if self._resume else "")

    def _exit(self, status: int, words: str) -> None:
        """End this process as it is, with a last line where there are words."""
        self.last_words("")
        with contextlib.suppress(OSError):
            if os.isatty(sys.stderr.fileno()):
                _say(_SHOW_CURSOR)
        _say(f"arsvd: {words}\n" if words else "")
        os._exit(status)


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # the terminal may be gone
        os.write(sys.stderr.fileno(), text.encode())  # a print could meet itself half-way in a signal handler


@contextlib.contextmanager
def watch_signals() -> Iterator[Interruption]:
    """Take SIGINT, SIGTERM and SIGHUP while the block runs; on another thread than the main one, take none.

    SIGHUP stays ignored where it was when the program started: `nohup` means it.
    """
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    if before[signal.SIGHUP] is signal.SIG_IGN:
        del before[signal.SIGHUP]
    interruption._watching = True
    try:
        for number in before:
            signal.signal(number, interruption._signalled)
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
