"""How many processes write a front's models, and what becomes of the models where one is killed."""

import functools
import logging
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from arsvd import memory
from sweeps.tracking import exporting
from sweeps.tracking.exporting import Exporters, processes

GIGABYTE = 10**9


@pytest.mark.parametrize(
    ("count", "cores", "number"),
    [(0, 8, 1), (23, 8, 1), (24, 8, 2), (24, 1, 1), (24, 0, 1), (51, 8, 4), (5000, 64, 16)],
)
def test_processes_are_as_many_as_pay(count: int, cores: int, number: int) -> None:
    assert processes(count, cores) == number


# name: files of the system, the memory that is free
SYSTEMS: dict[str, tuple[dict[str, str], int | None]] = {
    "a machine": ({"meminfo": "MemTotal: 9000 kB\nMemAvailable: 4000 kB\nHugePages_Total: 0\n"}, 4_096_000),
    "no Linux": ({}, None),
    "an old kernel": ({"meminfo": "MemTotal: 9000 kB\n"}, None),
    "a container": (
        {
            "meminfo": "MemAvailable: 4000 kB\n",
            "cgroup": "0::/\n",
            "groups/memory.max": "3000000\n",
            "groups/memory.current": "2500000\n",
            "groups/memory.stat": "anon 7\ninactive_file 500000\n",
        },
        1_000_000,
    ),
    "a job within its user's share": (
        {
            "meminfo": "MemAvailable: 4000 kB\n",
            "cgroup": "0::/user/job\n",
            "groups/user/memory.max": "3000000\n",
            "groups/user/memory.current": "2000000\n",
            "groups/user/memory.stat": "inactive_file 0\n",
            "groups/user/job/memory.max": "max\n",
            "groups/user/job/memory.current": "1000000\n",
            "groups/user/job/memory.stat": "inactive_file 0\n",
        },
        1_000_000,
    ),
    "groups of version 1": (
        {
            "meminfo": "MemAvailable: 4000 kB\n",
            "cgroup": "4:memory:/seen/from/outside\n1:cpu:/\n0::/\n",
            "groups/memory/memory.limit_in_bytes": "3000000\n",
            "groups/memory/memory.usage_in_bytes": "3500000\n",
            "groups/memory/memory.stat": "inactive_file 9\ntotal_inactive_file 100000\n",
        },
        0,
    ),
}


@pytest.mark.parametrize(("files", "free"), SYSTEMS.values(), ids=SYSTEMS)
def test_free_memory_is_what_machine_and_groups_have_left(
    files: dict[str, str], free: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    monkeypatch.setattr(memory, "_MEMORY", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_GROUP", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "_GROUPS", tmp_path / "groups")
    assert memory.free_memory() == free


@pytest.mark.parametrize(("free", "number"), [(None, 4), (100 * GIGABYTE, 4), (2 * GIGABYTE + 7, 2), (7, 0)])
def test_processes_have_a_gigabyte_each(
    free: int | None, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def one(count: int, cores: int) -> int:
        seen.append(cores)
        return 1

    monkeypatch.setattr("loky.cpu_count", lambda: 4)
    monkeypatch.setattr(exporting, "free_memory", lambda: free)
    monkeypatch.setattr(exporting, "processes", one)
    with Exporters() as exporters:
        assert list(exporters.exported([], 100)) == []
    assert seen == [number]


def test_models_of_a_killed_process_are_written_here(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    here = os.getpid()

    def write(order: str, folder: Any) -> str:
        (folder / "half").touch(exist_ok=False)
        if order == "2" and os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does where there is no memory
        (folder / "name").write_text(order)
        return f"hash of {order}"

    monkeypatch.setattr(exporting, "processes", lambda count, cores: 2)
    monkeypatch.setattr(exporting, "prepare_process", lambda: None)  # its module imports torch
    monkeypatch.setattr(exporting, "warm", lambda: None)
    monkeypatch.setattr(exporting, "write", write)
    names = [str(number) for number in range(9)]
    orders: Any = [functools.partial(str, name) for name in names]
    found, places = [], set()
    with Exporters() as exporters, caplog.at_level(logging.WARNING, logger=exporting.__name__):
        for export in exporters.exported(orders, len(names)):
            found.append(((export.folder / "name").read_text(), export.order, export.sha256))
            places.add(export.folder)
    assert found == [(name, name, f"hash of {name}") for name in names]
    assert not any(place.exists() for place in places)
    (warning,) = [record for record in caplog.records if record.name == exporting.__name__]
    assert warning.getMessage().startswith("models are exported one by one from here on: ")
    assert "\n" not in warning.getMessage()


def test_processes_started_beforehand_are_those_that_write(monkeypatch: pytest.MonkeyPatch) -> None:
    def warm() -> None:
        time.sleep(0.5)  # so that each process is given one

    def write(order: str, folder: Path) -> str:
        return f"{order} {os.getpid()}"

    monkeypatch.setattr(exporting, "processes", lambda count, cores: 2)
    monkeypatch.setattr(exporting, "prepare_process", lambda: None)
    monkeypatch.setattr(exporting, "warm", warm)
    monkeypatch.setattr(exporting, "write", write)
    orders: Any = [functools.partial(str, number) for number in range(6)]
    with Exporters() as exporters:
        began = time.monotonic()
        exporters.begin(6)
        exporters.begin(6)  # once is enough
        assert time.monotonic() - began < 0.4
        exporters.settle()
        assert time.monotonic() - began >= 0.5
        started = children()  # loky's own helpers among them
        # asked for twice, as where the server went away meanwhile
        for _ in range(2):
            wrote = [export.sha256.split() for export in exporters.exported(orders, 6)]
            assert [order for order, _ in wrote] == [str(number) for number in range(6)]
            writers = {int(pid) for _, pid in wrote}
            assert writers <= started
    assert not writers & children()


def children() -> set[int]:
    """Processes that this one has started."""
    found = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    return {int(pid) for path in found for pid in path.read_text().split()}
