"""What processes take, from Linux's /proc: no package that the product does not need."""

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Usage:
    """One process.

    Attributes:
        name: what it calls itself.
        peak_mb: largest resident memory, in MB, the part of the object store that it has touched included.
        cpu_seconds: of all its threads.
    """

    name: str
    peak_mb: float
    cpu_seconds: float


class ProcessWatch:
    """Looks at this process and its descendants while a block runs; `usage` has what was seen last of each.

    Args:
        every: seconds between two looks.
    """

    def __init__(self, every: float = 0.5) -> None:
        self.usage: dict[int, Usage] = {}
        self._every = every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def look(self) -> dict[int, Usage]:
        """Look once more and return what is known of each process."""
        for pid in _descendants(os.getpid()):
            found = _read(pid)
            if found is not None:
                self.usage[pid] = found
        return self.usage

    def __enter__(self) -> "ProcessWatch":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._stop.wait(self._every):
            self.look()


def resident_mb() -> float:
    """Return this process's resident memory now, in MB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _descendants(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text(encoding="utf-8", errors="replace")
            except OSError:  # it has ended
                continue
            # the name, in parentheses, may hold spaces
            parent = int(stat.rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.name))
    found, left = [], [root]
    while left:
        pid = left.pop()
        found.append(pid)
        left += children.get(pid, [])
    return found


def _read(pid: int) -> Usage | None:
    place = Path("/proc") / str(pid)
    try:
        status = (place / "status").read_text(encoding="utf-8", errors="replace")
        fields = (place / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        command = (place / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return None
    values = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    if "VmHWM" not in values:  # a kernel thread, or one that is ending
        return None
    name = "driver" if pid == os.getpid() else _name(command, values["Name"].strip())
    cpu = (int(fields[11]) + int(fields[12])) / _TICKS
    return Usage(name, int(values["VmHWM"].split()[0]) / 1e3 * 1.024, cpu)


def _name(command: list[bytes], short: str) -> str:
    first = command[0].decode(errors="replace")
    if first.startswith("ray::"):
        return first.split("(")[0].split(".")[0]
    for part in command[1:3]:
        if part.endswith(b".py"):
            return Path(part.decode(errors="replace")).stem
    return Path(first).name or short
