"""What a killed driver leaves of its Ray is ended, and nothing else."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from cluster import reaper
from cluster.reaper import reap

DRIVER = 2**22 + 1  # more than the kernel gives out


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Callable[[str], Any]]:
    """Start a process that keeps a file in a folder of that name open."""
    started = []

    def start(folder: str) -> Any:
        path = tmp_path / folder / "logs" / "agent.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as log:
            started.append(subprocess.Popen(["sleep", "600"], stdout=log))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_only_processes_with_files_of_the_drivers_session_are_ended(
    holder: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reaper, "_LOOK_SECONDS", 0.01)
    own = [holder(f"session_2026-11-25_22-57-57_920539_{DRIVER}") for _ in range(2)]
    others = [
        holder(f"session_2026-11-25_22-57-57_920539_{DRIVER}1"),
        holder(f"session_2026-11-25_22-57-57_920539_1{DRIVER}"),
        holder(f"sweeps_{DRIVER}"),
    ]
    first = psutil.Process(own[0].pid).create_time()
    reap(DRIVER, first + 1000, grace=0.0)  # a process of that number ran before
    assert all(process.poll() is None for process in own + others)
    reap(DRIVER, first, grace=0.0)
    assert all(process.poll() == -signal.SIGKILL for process in own)
    assert all(process.poll() is None for process in others)


def test_processes_that_end_by_themselves_are_waited_for(
    holder: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    process = holder(f"session_2026-11-25_22-57-57_920539_{DRIVER}")
    monkeypatch.setattr(reaper, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(reaper, "_MOST_SECONDS", 0.05)
    reap(DRIVER, 0, grace=60.0)
    assert process.poll() is None


# name: what the driver has written, what is said at its end
WORDS = {
    "none": ("", ""),
    "the last ones": (
        "one\narsvd: go on with: arsvd resume digits-1\n",
        "arsvd: go on with: arsvd resume digits-1\n",
    ),
    "taken back": ("arsvd: go on with: arsvd resume digits-1\n\n", ""),
}


@pytest.mark.parametrize(("written", "said"), WORDS.values(), ids=WORDS)
def test_last_words_are_said_at_the_drivers_end(written: str, said: str) -> None:
    command = [sys.executable, "-m", "cluster.reaper", str(DRIVER)]
    done = subprocess.run(command, input=written, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", said)
