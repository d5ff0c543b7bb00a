"""Processes of this machine, named so that a number that was given out again is not mistaken for the first.

Linux only: it reads /proc, which has what no portable call tells (start time, environment).
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ProcessId:
    """A process: its number and when it was started.

    Attributes:
        pid: number, which the kernel gives out again.
        started: clock ticks between the machine's start and the process's, from /proc.
    """

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> "ProcessId | None":
        """The running process of a number; None where there is none, or only its remains."""
        fields = _stat(pid)
        return None if not fields or fields[0] in "ZX" else cls(pid, int(fields[19]))

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return ProcessId.of(self.pid) == self

    def send(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


def boot_id() -> str:
    """Return what the kernel drew at the machine's last start; empty where the system does not say it."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def marked(variable: str, value: str) -> list[ProcessId]:
    """Find the processes of this user that were started with a variable set to a value.

    Children inherit the mark, in other sessions and process groups too, and it cannot be reached by accident.
    Processes that renamed themselves, as Ray's workers do, have lost it: see `with_descendants`.
    """
    mark = f"{variable}={value}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        process = ProcessId.of(int(entry.name))
        try:
            has_mark = mark in (entry / "environ").read_bytes().split(b"\0")
        except OSError:  # it has ended, or it is another user's
            continue
        if process is not None and has_mark and process.pid != os.getpid():
            found.append(process)
    return found


def holding(folder: Path) -> list[ProcessId]:
    """Find the processes of this user that have a file below a folder open, whatever they call themselves."""
    inside = f"{folder}{os.sep}"
    return having_open(lambda path: path.startswith(inside))


def having_open(wanted: Callable[[str], object]) -> list[ProcessId]:
    """Find the processes of this user that have one of some files open.

    Args:
        wanted: tells by its path whether a file is one of them.
    """
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        process = ProcessId.of(int(entry.name))
        if process is None or process.pid == os.getpid():
            continue
        if any(wanted(path) for path in _opened(entry)):
            found.append(process)
    return found


def with_descendants(roots: list[ProcessId]) -> list[ProcessId]:
    """Return running processes, their children, the children of those, and so on; each once."""
    children: dict[int, list[ProcessId]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        process = ProcessId.of(int(entry.name))
        if process is not None:
            children.setdefault(_parent(process.pid), []).append(process)
    found = [root for root in roots if root.alive]
    for process in found:  # grows while it is walked
        found += [child for child in children.get(process.pid, []) if child not in found]
    return found


def wait_until(done: Callable[[], bool], seconds: float, pause: float = 0.1) -> bool:
    """Wait for something to become true.

    Returns:
        Whether it did within the time.
    """
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            return False
        time.sleep(pause)
    return True


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the third on; none where the process has ended."""
    try:
        # the name stands in brackets and may hold brackets and spaces
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _opened(entry: Path) -> Iterator[str]:
    """Yield what the process of a folder of /proc has open; nothing of another user's."""
    with contextlib.suppress(OSError):
        for link in (entry / "fd").iterdir():
            with contextlib.suppress(OSError):  # closed just now
                yield os.readlink(link)


def _parent(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[1]) if fields else 0
