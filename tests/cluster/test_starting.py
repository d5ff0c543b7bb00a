"""Ray starts on a thread of its own: what its caller is told, and that it is gone at the end."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.attach import StartingRay
from cluster.state import ClusterError

# Ray is used from another thread than the one that started it, for longer than it takes to see that it lives.
USED = """
import sys, threading
from cluster.attach import StartingRay, ray_session
with StartingRay(ray_session) as starting:
    starting.begin()
    print("not waited for", "ray-session" in [thread.name for thread in threading.enumerate()])
    starting.wait()
    import ray
    print("task", ray.get(ray.remote(lambda: 6 * 7).remote()))
print("running", ray.is_initialized())
"""
INTERRUPTED = """
import sys, time
from cluster.attach import StartingRay, ray_session
with StartingRay(ray_session) as starting:
    starting.begin()
    print("begun", flush=True)
    time.sleep(300)
"""


class Session:
    """Stands for Ray: notes on which thread it is entered and left."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.seen: list[tuple[str, str]] = []
        self.may_start = threading.Event()

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        self.may_start.wait(10)
        if self.error is not None:
            raise self.error
        self.seen.append(("entered", threading.current_thread().name))
        try:
            yield
        finally:
            self.seen.append(("left", threading.current_thread().name))


def test_a_session_is_entered_and_left_on_one_thread_beside_its_caller() -> None:
    session = Session()
    with StartingRay(session) as starting:
        starting.begin()
        assert session.seen == []  # it starts while this goes on
        session.may_start.set()
        starting.wait()
        assert session.seen == [("entered", "ray-session")]
    assert session.seen == [("entered", "ray-session"), ("left", "ray-session")]


def test_what_the_start_failed_with_is_raised_by_the_wait() -> None:
    session = Session(ClusterError("no cluster answers"))
    session.may_start.set()
    with StartingRay(session) as starting:
        starting.begin()
        with pytest.raises(ClusterError, match="no cluster answers"):
            starting.wait()
    assert session.seen == []


def test_an_error_of_the_caller_ends_what_is_still_starting() -> None:
    session = Session()

    def prepare() -> None:
        with StartingRay(session) as starting:
            starting.begin()
            session.may_start.set()
            raise ValueError("no data")

    with pytest.raises(ValueError, match="no data"):
        prepare()
    assert [what for what, _ in session.seen] == ["entered", "left"]
    with StartingRay(Session()):
        pass  # never begun: there is nothing to end


@pytest.fixture
def environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}


def test_ray_outlives_its_start_and_is_gone_at_the_end(environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", USED], capture_output=True, text=True, env=environment, timeout=120
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == "not waited for True\ntask 42\nrunning False\n"


def test_ctrl_c_while_ray_starts_leaves_nothing_behind(environment: dict[str, str]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    time.sleep(1.5)  # in the middle of it
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert errors.rstrip().endswith("KeyboardInterrupt"), errors
    deadline = time.monotonic() + 30
    while in_session(process.pid) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert in_session(process.pid) == []


def in_session(session: int) -> list[str]:
    """Titles of the processes of a session that run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, own = path.read_text().rpartition(")")[2].split()[:4]
            if int(own) == session and state != "Z":
                found.append(path.with_name("cmdline").read_text().replace("\0", " "))
    return found
