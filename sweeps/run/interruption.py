"""Everything that ends a sweep early: Ctrl-C, SIGTERM, a closed terminal, or a lost cluster."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

AT_ONCE = 130  # exit status of a process that Ctrl-C ended
STUCK = 1  # and of one whose main thread hangs in a lost cluster
# Time for the main thread to begin the shutdown, and to finish it: 30 seconds after the loss Ray would end
# this process without a word.
_BEGIN_SECONDS, _END_SECONDS = 5.0, 15.0
_SHOW_CURSOR = "\x1b[?25h"  # a progress bar has hidden it
_NOTE = "\nending the sweep in order; Ctrl-C again ends it at once\n"


class Interruption:
    """The state of a request to end the sweep.

    Attributes:
        requested: True since the first SIGINT, SIGTERM or SIGHUP, or since `lose` was called.
        lost: cause of the loss of the cluster; None while it is not known to be lost.
        signalled: True if a signal came first.
        last_words: function that receives the text that another process prints if this one ends without a
            word.
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
        """Why the sweep ended, and how to continue it."""
        cause = "it was interrupted" if self.signalled or self.lost is None else self.lost
        return f"the sweep was stopped: {cause}; go on with: {self._resume}"

    @contextlib.contextmanager
    def sweep(self, resume: str) -> Iterator[None]:
        """Run a sweep that is on file.

        Args:
            resume: command that continues it.
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
        """Run a block that `rescue` can end.

        Args:
            rescue: function that ends it in order from another thread, where the main one hangs in a lost
                cluster.
        """
        self._rescue = rescue
        try:
            yield
        finally:
            self._ending.set()

    @contextlib.contextmanager
    def awaited(self) -> Iterator[None]:
        """Let the block watch `requested` itself; outside of it a signal raises KeyboardInterrupt."""
        self._awaited = True
        try:
            yield
        finally:
            self._awaited = False

    def lose(self, cause: str) -> None:
        """End the sweep from another thread than the main one, because its cluster is lost.

        The main thread may be waiting for the cluster, so it is interrupted whatever it does. If that does
        not help, or if the sweep was ending already and is waiting now, this thread ends it, and the process.

        Args:
            cause: description of what was lost.
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
            with contextlib.suppress(Exception):  # the line that resumes is printed whatever happens
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
            # This waits for nothing and loses nothing: the ledger's files are whole at any moment, Ray's
            # processes end with this one, and the lock of a dead process is taken over.
            self._exit(AT_ONCE, f"go on with: {self._resume}" if self._resume else "")

    def _exit(self, status: int, words: str) -> None:
        """End this process as it is, with a last line if there is one to say."""
        self.last_words("")
        with contextlib.suppress(OSError):
            if os.isatty(sys.stderr.fileno()):
                _say(_SHOW_CURSOR)
        _say(f"arsvd: {words}\n" if words else "")
        os._exit(status)


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # the terminal may be gone
        os.write(sys.stderr.fileno(), text.encode())  # print is not safe in a signal handler


@contextlib.contextmanager
def watch_signals() -> Iterator[Interruption]:
    """Handle SIGINT, SIGTERM and SIGHUP while the block runs; off the main thread, handle none.

    SIGHUP stays ignored if it was when the program started, as `nohup` wants it.
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
