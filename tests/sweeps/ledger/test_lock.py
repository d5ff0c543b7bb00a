"""A sweep is run by one process at a time, and what a dead one left behind stands in nobody's way."""

import errno
import fcntl
import json
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from arsvd.data import Dataset
from sweeps.config import SweepConfig
from sweeps.ledger.ledger import Ledger
from sweeps.ledger.lock import LOCK, LockedError, Owner, hold, read_owner
from sweeps.ledger.storage import StorageError

HOLDER = """
import sys, time
from sweeps.ledger.ledger import Ledger
from sweeps.ledger.lock import hold
with hold(Ledger(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def ledger(tmp_path: Path, new_config: Callable[..., SweepConfig], digits: Dataset) -> Ledger:
    return Ledger.create(tmp_path, new_config(), digits, (17_226, 17_024))


@pytest.fixture
def holder(ledger: Ledger) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-c", HOLDER, ledger.location]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def leave(ledger: Ledger, owner: Owner) -> None:
    ledger.storage.write(LOCK, json.dumps(asdict(owner)).encode())


def test_a_lock_names_its_owner_and_goes_with_the_block(ledger: Ledger) -> None:
    with hold(ledger):
        owner = read_owner(ledger)
        assert owner is not None
        assert (owner.pid, owner.here, owner.alive) == (os.getpid(), True, True)
    assert read_owner(ledger) is None
    assert not [path for path in ledger.path.iterdir() if "lock" in path.name]
    with pytest.raises(RuntimeError, match="half-way"), hold(ledger):
        raise RuntimeError("half-way")
    with hold(ledger):
        pass


def test_a_second_process_is_refused_and_told_who_holds_it_since_when(
    ledger: Ledger, holder: "subprocess.Popen[str]"
) -> None:
    name = ledger.facts.id
    text = rf"sweep {name} is being run by process {holder.pid} on .+ since 20..-..-..T..:..:..Z; wait"
    for force in (False, True):
        with pytest.raises(LockedError, match=text), hold(ledger, force):
            pass
    assert holder.poll() is None
    owner = read_owner(ledger)
    assert owner is not None
    assert owner.pid == holder.pid


def test_the_same_process_cannot_hold_it_twice(ledger: Ledger) -> None:
    with hold(ledger), pytest.raises(LockedError, match=f"process {os.getpid()}"), hold(ledger):
        pass


def test_the_lock_of_a_killed_process_is_taken_over(ledger: Ledger, holder: "subprocess.Popen[str]") -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert read_owner(ledger) is not None
    with hold(ledger):
        owner = read_owner(ledger)
        assert owner is not None
        assert owner.pid == os.getpid()
    assert read_owner(ledger) is None


def test_a_process_number_that_was_used_again_is_not_the_owner(ledger: Ledger) -> None:
    leave(ledger, replace(Owner.this_process(), started="17"))
    with hold(ledger):
        pass


def test_the_owner_counts_where_the_file_system_has_no_locks(
    ledger: Ledger, holder: "subprocess.Popen[str]"
) -> None:
    (ledger.path / f".{LOCK}").unlink()  # so that flock would let us in
    with pytest.raises(LockedError, match=f"process {holder.pid}"), hold(ledger):
        pass


@pytest.fixture
def _no_flock(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refused)


@pytest.mark.usefixtures("_no_flock")
def test_the_lock_of_another_container_of_this_machine_stands_until_forced(
    ledger: Ledger,
) -> None:
    # its number is nobody's here, which says nothing
    leave(ledger, replace(Owner.this_process(), namespace="pid:[7]", pid=2**22 + 1))
    with pytest.raises(LockedError, match="cannot be seen from here, add --force"), hold(ledger):
        pass
    with hold(ledger, force=True):
        pass


def test_the_lock_of_another_container_is_taken_over_where_its_flock_is_gone(ledger: Ledger) -> None:
    leave(ledger, replace(Owner.this_process(), namespace="pid:[7]"))
    with hold(ledger):
        owner = read_owner(ledger)
        assert owner is not None
        assert owner.here


def test_a_held_flock_is_not_to_be_forced(ledger: Ledger, holder: "subprocess.Popen[str]") -> None:
    owner = read_owner(ledger)
    assert owner is not None
    leave(ledger, replace(owner, namespace="pid:[7]"))
    for force in (False, True):
        with pytest.raises(LockedError, match="wait for its end"), hold(ledger, force):
            pass
    assert holder.poll() is None


@pytest.mark.usefixtures("_no_flock")
@pytest.mark.parametrize("namespace", ["", "pid:[7]", None])
def test_a_lock_from_before_the_machine_started_anew_is_taken_over(
    ledger: Ledger, namespace: str | None
) -> None:
    now = Owner.this_process()
    leave(ledger, replace(now, boot="another", namespace=now.namespace if namespace is None else namespace))
    with hold(ledger):
        pass


@pytest.mark.usefixtures("_no_flock")
def test_a_lock_of_an_earlier_version_is_compared_by_its_host(ledger: Ledger) -> None:
    earlier = asdict(Owner.this_process())
    del earlier["boot"], earlier["namespace"]
    ledger.storage.write(LOCK, json.dumps(earlier).encode())
    owner = read_owner(ledger)
    assert owner is not None
    assert (owner.boot, owner.namespace, owner.here, owner.alive) == ("", "", True, True)
    with pytest.raises(LockedError, match=f"process {os.getpid()} .*; wait for its end"), hold(ledger):
        pass
    ledger.storage.write(LOCK, json.dumps({**earlier, "started": "17"}).encode())
    with hold(ledger):
        pass


def test_a_lock_that_cannot_be_written_is_named(ledger: Ledger) -> None:
    guard = ledger.path / f".{LOCK}"
    guard.mkdir()  # stands for a folder that takes no files: root may write everywhere
    with pytest.raises(StorageError, match=f"^cannot write {guard}: Is a directory"), hold(ledger):
        pass
    assert read_owner(ledger) is None


def test_the_lock_of_another_machine_stands_until_forced(ledger: Ledger) -> None:
    leave(ledger, replace(Owner.this_process(), host="node-7", pid=2**22 + 1))
    with (
        pytest.raises(LockedError, match=r"on node-7 since .+ cannot be seen from here, add --force"),
        hold(ledger),
    ):
        pass
    with hold(ledger, force=True):
        pass
    with hold(ledger):
        pass


def _owner(**changes: object) -> bytes:
    return json.dumps({**asdict(Owner.this_process()), **changes}).encode()


# 0 is this process's own group to `kill`, and -1 every process
UNREADABLE = [b"", b"{", b"[]", b'{"pid": 1}', b"\xff", b"[" * 100_000, b"3"]
UNREADABLE += [_owner(pid=pid) for pid in ("1", 0, -1, 1.5, 2**70, None, [])]
UNREADABLE += [_owner(**{name: 7}) for name in ("host", "started", "since", "token", "boot", "namespace")]


@pytest.mark.parametrize("content", UNREADABLE, ids=range(len(UNREADABLE)))
def test_an_unreadable_lock_is_ignored(ledger: Ledger, content: bytes) -> None:
    ledger.storage.write(LOCK, content)
    with hold(ledger):
        pass


def _contend(
    location: str, start: "multiprocessing.synchronize.Barrier", won: "multiprocessing.Queue[bool]"
) -> None:
    start.wait()
    try:
        with hold(Ledger(location)):
            won.put(True)
            start.wait()
    except LockedError:
        won.put(False)
        start.wait()


def test_one_of_many_simultaneous_processes_gets_the_lock(ledger: Ledger) -> None:
    context = multiprocessing.get_context("fork")
    processes = 6
    for _ in range(5):
        start, won = context.Barrier(processes), context.Queue()
        racers = [
            context.Process(target=_contend, args=(ledger.location, start, won)) for _ in range(processes)
        ]
        for racer in racers:
            racer.start()
        results = [won.get(timeout=60) for _ in racers]
        for racer in racers:
            racer.join()
        assert [racer.exitcode for racer in racers] == [0] * processes
        assert sorted(results) == [False] * (processes - 1) + [True]
