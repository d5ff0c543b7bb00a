"""A thread that does slow writing in order, so that the driver never waits for a server."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Any


class Worker:
    """Runs calls one after the other on one thread; `wait` raises the first error."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="mlflow")
        self._pending: list[Future[Any]] = []

    def submit(self, call: Callable[..., Any], *arguments: Any, **keywords: Any) -> None:
        """Queue a call."""
        self._pending.append(self._pool.submit(call, *arguments, **keywords))

    def wait(self) -> None:
        """Wait for all queued calls.

        Raises:
            Exception: the first error among them, after all have run.
        """
        pending, self._pending = self._pending, []
        errors = [error for future in pending if (error := future.exception()) is not None]
        if errors:
            raise errors[0]

    def cancel(self) -> None:
        """Drop what has not begun, and wait for what has: from then on the caller alone writes."""
        pending, self._pending = self._pending, []
        for future in pending:
            future.cancel()
        wait(pending)

    def __enter__(self) -> "Worker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=kind is not None)
