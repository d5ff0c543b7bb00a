"""A thread that writes to a server in order, so that training never waits for it.

The server may go away in the meantime. The call that failed is then retried with growing pauses, and the
others queue behind it; training continues. Calls that the server refuses for good, or that fail for an
unforeseen reason, are recorded as missing and not retried.
"""

import logging
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

from sweeps.ledger.storage import StorageError
from sweeps.tracking.outages import ServerAwayError, TrackingError, one_line, redact

log = logging.getLogger(__name__)

T = TypeVar("T")

PATIENCE_SECONDS = 60.0  # how long the end of a sweep waits for a server that is away
CANCEL_SECONDS = 30.0  # longer than one request takes to fail
_WATCH_SECONDS = 0.25  # between two calls of `watch` during a wait
PAUSES = 0.25, 5.0  # the first and the longest pause between two tries, in seconds


@dataclass(frozen=True)
class Missed:
    """A call that was not carried out.

    Attributes:
        what: label of the call.
        cause: reason, in one line and without credentials.
    """

    what: str
    cause: str


@dataclass(frozen=True)
class _Call:
    run: Callable[[], Any]
    label: str
    future: "Future[Any]"


class Worker:
    """Runs calls one after the other on one thread.

    Promises: calls run in the order of their submission, each until it has succeeded, the server has refused
    it, or it has failed for an unforeseen reason, whose traceback is logged. A call that fails with
    `ServerAwayError` or `StorageError` is repeated, so it must be repeatable. Where the server answered with
    an internal error, or a file cannot be reached, the other calls go first: the fault may be in that one
    call. Nothing waits for the server except `wait`, `settle` and `cancel`, which are for one thread at a
    time.

    The queue holds the calls and their arguments: submit keys, not records.

    Args:
        pauses: first and longest pause between two tries, in seconds.
    """

    def __init__(self, pauses: tuple[float, float] = PAUSES) -> None:
        self._pauses = pauses
        self._queue: deque[_Call] = deque()
        self._running = False
        self._missed: list[Missed] = []
        self._away: str | None = None
        self._away_since = 0.0
        self._hurry = self._cancelled = self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="mlflow-writer", daemon=True)
        self._thread.start()

    @property
    def away(self) -> str | None:
        """Why the last call failed, while the server is away; None while it answers."""
        return self._away

    @property
    def queued(self) -> int:
        """Number of calls that are not done, including the one that runs."""
        with self._changed:
            return len(self._queue) + self._running

    def submit(
        self, call: Callable[..., T], *arguments: Any, label: str = "", **keywords: Any
    ) -> "Future[T]":
        """Queue a call.

        Args:
            call: function to run, possibly more than once.
            arguments: positional arguments of the function.
            label: name for people, such as "member 3".
            keywords: keyword arguments of the function.

        Returns:
            The result or the error of the call; cancelled where the call was dropped.
        """
        future: Future[T] = Future()
        name = label or getattr(call, "__name__", repr(call))
        with self._changed:
            self._queue.append(_Call(lambda: call(*arguments, **keywords), name, future))
            self._changed.notify_all()
        return future

    def answers(self) -> None:
        """Note, from within a long call, that the server has just answered: an outage before that is over.

        Use it only for progress that a repetition of the call would not make again: a call that reports
        progress at every try is retried forever.
        """
        with self._changed:
            self._away = None

    def check_cancelled(self) -> None:
        """End a long call, from within it, where `cancel` waits for its end.

        Raises:
            CancelledError: `cancel` is waiting.
        """
        with self._changed:
            if self._cancelled:
                raise CancelledError

    def settle(self) -> None:
        """Wait until everything queued is done or the server is away; drop nothing."""
        with self._changed:
            self._changed.wait_for(lambda: not self._busy() or self._away is not None)

    def wait(
        self,
        seconds: float = PATIENCE_SECONDS,
        told: Callable[[str], None] | None = None,
        limit: float | None = None,
        watch: Callable[[], None] | None = None,
    ) -> list[Missed]:
        """Wait until everything queued is done; give up once the server has been away for too long.

        Args:
            seconds: seconds that the server may be away, from now or from when it went, before the rest is
                dropped.
            told: function that receives the reason once where it takes long, on the caller's thread.
            limit: largest number of seconds to wait in all, whatever the server does; the rest then stays in
                the queue.
            watch: callback that is called a few times a second during the wait, on the caller's thread.

        Returns:
            The calls that are missing since the last `wait`: refused by the server, failed, or dropped.
        """
        began = time.monotonic()
        with self._changed:
            self._hurry = True  # a pause is cut short: the server may be back
            self._changed.notify_all()
            while self._busy():
                left = None if limit is None else began + limit - time.monotonic()
                if left is not None and left <= 0:
                    break
                if self._away is not None:
                    patience = max(began, self._away_since) + seconds - time.monotonic()
                    if patience <= 0 and not self._running:
                        self._drop(self._away)
                        break
                    if told is not None:
                        told(f"{self._away}; waiting up to {seconds:g} s for it")
                        told = None
                    patience = max(patience, 0.05)
                    left = patience if left is None else min(left, patience)
                if watch is not None:
                    watch()
                    left = _WATCH_SECONDS if left is None else min(left, _WATCH_SECONDS)
                self._changed.wait(left)
            missed, self._missed = self._missed, []
        return missed

    def cancel(self, seconds: float = CANCEL_SECONDS) -> bool:
        """Drop calls that have not begun, and wait for one that has: from then on only the caller writes.

        Args:
            seconds: largest number of seconds to wait.

        Returns:
            True if the call that had begun has ended.
        """
        with self._changed:
            self._drop("cancelled")
            self._cancelled = True
            ended = self._changed.wait_for(lambda: not self._running, seconds)
            self._cancelled = not ended
            self._drop("cancelled")  # the call that ran may have gone back into the queue
            self._missed = []
            return ended

    def __enter__(self) -> "Worker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.wait()
            else:
                self.cancel()
        finally:
            with self._changed:
                self._closed = True
                self._changed.notify_all()
            self._thread.join(CANCEL_SECONDS)

    def _busy(self) -> bool:
        return bool(self._queue) or self._running

    def _drop(self, cause: str) -> None:
        for call in self._queue:
            self._missed.append(Missed(call.label, cause))
            call.future.cancel()
        self._queue.clear()
        self._changed.notify_all()

    def _work(self) -> None:
        pause = 0.0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._hurry, pause)
                self._hurry = False
                self._changed.wait_for(lambda: self._closed or self._queue)
                if not self._queue:
                    return
                call = self._queue.popleft()
                self._running = True
            failure: BaseException | None = None
            result = None
            try:
                result = call.run()
            except BaseException as error:  # whoever waits gets it: this thread must go on
                failure = error
                if not isinstance(error, TrackingError | StorageError | CancelledError):
                    # a fault of this software or this machine: the traceback is what helps
                    log.error("%s:\n%s", call.label, redact("".join(traceback.format_exception(error))))
            with self._changed:
                again = self._judge(call, failure)
                if not again and failure is None:
                    call.future.set_result(result)
                elif not again:
                    call.future.set_exception(failure)
                elif self._closed:
                    self._drop("closed")
                self._running = False
                first, longest = self._pauses
                pause = min(max(first, 2 * pause), longest) if again else 0.0
                self._changed.notify_all()

    def _judge(self, call: _Call, failure: BaseException | None) -> bool:
        """Record how a call ended; return True if it goes back into the queue."""
        if isinstance(failure, ServerAwayError | StorageError):
            if self._away is None:
                self._away_since = time.monotonic()
            self._away = redact(str(failure))
            if isinstance(failure, StorageError) or failure.answered:
                self._queue.append(call)
            else:
                self._queue.appendleft(call)
            return True
        self._away = None
        if isinstance(failure, TrackingError):
            self._missed.append(Missed(call.label, str(failure)))
        elif failure is not None and not isinstance(failure, CancelledError):
            self._missed.append(Missed(call.label, one_line(f"{type(failure).__name__}: {failure}")))
        return False
