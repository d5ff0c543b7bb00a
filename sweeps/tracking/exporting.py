"""Models of a front as files; many of them are written by processes that were started beforehand."""

import logging
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from arsvd.memory import free_memory
from sweeps.tracking.outages import one_line
from sweeps.tracking.programs import Order, prepare_process, warm, write

log = logging.getLogger(__name__)

# A process needs three seconds before it can export, and then an eighth of a second per model.
_MODELS_A_PROCESS = 12
_MOST_PROCESSES = 16  # one thread registers what they write, and is as fast as about three of them
_MEMORY_A_PROCESS = 1_000_000_000  # bytes, roughly
_IDLE_SECONDS = 60  # a process that waits longer for a model ends, and is started again when there is one


@dataclass(frozen=True)
class Export:
    """An exported model.

    Attributes:
        order: order from which it was made.
        folder: folder that holds its files.
        sha256: hash of its safetensors file.
    """

    order: Order
    folder: Path
    sha256: str


@dataclass(frozen=True)
class _Begun:
    order: Order
    place: Path
    sha256: "Future[str]"


class Exporters:
    """Writes the files of models, in other processes where enough models make that worthwhile.

    Promises: `begin` returns at once; models are written in the order in which they were ordered; where a
    process is killed, for example because of its memory, this one writes the rest. It is for one thread at a
    time.
    """

    def __init__(self) -> None:
        self._executor: Any = None  # loky's, which has no types
        self._ahead = 0  # exports that may be under way besides the one that is waited for
        self._warming: list[Future[None]] = []

    def begin(self, count: int) -> None:
        """Start the processes and have them load what they need, unless they were started.

        Args:
            count: approximate number of models.
        """
        if self._executor is not None:
            return
        import loky

        cores, free = loky.cpu_count(), free_memory()
        number = processes(count, cores if free is None else min(cores, free // _MEMORY_A_PROCESS))
        if number > 1:
            self._executor = loky.ProcessPoolExecutor(
                number, timeout=_IDLE_SECONDS, initializer=prepare_process
            )
            self._ahead = 2 * number
            self._warming = [self._executor.submit(warm) for _ in range(number)]

    def settle(self) -> None:
        """Wait until the processes have loaded what they need: from then on they are idle."""
        wait(self._warming)

    def exported(self, orders: Iterable[Callable[[], Order]], count: int) -> Generator[Export]:
        """Write the files of models, in order; each is removed when the next is requested.

        Args:
            orders: functions that make the orders, called shortly before their models are needed.
            count: number of models, which decides how many processes write them.

        Raises:
            ValueError: a model does not give one logit per class, or its exported form disagrees with it.
        """
        self.begin(count)
        with tempfile.TemporaryDirectory(prefix="arsvd-") as folder:
            pending: deque[_Begun] = deque()
            for number, order in enumerate(orders):
                pending.append(self._start(order(), Path(folder) / str(number)))
                while len(pending) > self._ahead:
                    yield from self._end(pending.popleft())
            while pending:
                yield from self._end(pending.popleft())

    def close(self) -> None:
        """End the processes."""
        if self._executor is not None:
            self._executor.shutdown(wait=True, kill_workers=True)
        self._executor, self._ahead, self._warming = None, 0, []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self, order: Order, place: Path) -> _Begun:
        """Have a model written into a new folder."""
        place.mkdir()
        if self._executor is not None:
            try:
                return _Begun(order, place, self._executor.submit(write, order, place))
            except BrokenProcessPool as error:
                self._go_on_here(error)
        done: Future[str] = Future()
        done.set_result(write(order, place))
        return _Begun(order, place, done)

    def _end(self, begun: _Begun) -> Iterator[Export]:
        """Wait for a model, and remove its files when the next is requested."""
        place = begun.place
        try:
            sha256 = begun.sha256.result()
        except BrokenProcessPool as error:
            self._go_on_here(error)
            # a new folder: the first may hold half a model, and a process that has not quite ended
            place = place.with_name(f"{place.name}-again")
            place.mkdir()
            sha256 = write(begun.order, place)
        yield Export(begun.order, place, sha256)
        shutil.rmtree(place)

    def _go_on_here(self, error: BrokenProcessPool) -> None:
        if self._executor is not None:
            log.warning("models are exported one by one from here on: %s", one_line(str(error)))
            self.close()


def processes(count: int, cores: int) -> int:
    """Return the number of processes that write `count` models; 1 stands for this one."""
    return max(1, min(cores, _MOST_PROCESSES, count // _MODELS_A_PROCESS))
