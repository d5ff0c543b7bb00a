"""How much memory is free (Linux only; other systems do not tell)."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

_MEMORY, _GROUP, _GROUPS = Path("/proc/meminfo"), Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def free_memory() -> int | None:
    """Return how many bytes new processes can take; None where the system does not tell.

    Limits of this process's control group, and of every group around it, count as well.
    """
    found = []
    with contextlib.suppress(OSError, KeyError, ValueError):
        found.append(1024 * _table(_MEMORY)["MemAvailable:"])
    for group, limit, used, file_cache in _groups():
        with contextlib.suppress(OSError, KeyError, ValueError):  # "max" stands for no limit
            taken = int((group / used).read_text()) - _table(group / "memory.stat")[file_cache]
            found.append(max(0, int((group / limit).read_text()) - taken))
    return min(found, default=None)


def _groups() -> Iterator[tuple[Path, str, str, str]]:
    """Yield the control groups around this process, with their version's names for the figures."""
    new = "memory.max", "memory.current", "inactive_file"
    old = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
    with contextlib.suppress(OSError, ValueError):
        for line in _GROUP.read_text().splitlines():
            number, controllers, inside = line.split(":", 2)
            if number == "0" or "memory" in controllers.split(","):
                root = _GROUPS if number == "0" else _GROUPS / "memory"
                folder = root / inside.lstrip("/")
                for group in (folder, *folder.parents):
                    if group.is_relative_to(root):
                        yield group, *(new if number == "0" else old)


def _table(path: Path) -> dict[str, int]:
    """Read lines that hold a name and a number."""
    lines = (line.split() for line in path.read_text().splitlines())
    return {words[0]: int(words[1]) for words in lines if len(words) > 1}
