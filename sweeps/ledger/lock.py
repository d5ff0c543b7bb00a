"""A sweep is run by one process at a time: a lock in its directory, with owner and time."""

import contextlib
import datetime
import json
import os
import secrets
import socket
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated

from filelock import Timeout

from arsvd.json_fields import Bounds, read_fields, read_json
from cluster.locking import acquire
from sweeps.ledger.ledger import Ledger
from sweeps.ledger.storage import Folder, StorageError

LOCK = "sweep.lock"
_LARGEST_PID = 2**31 - 1
_NAMESPACE = Path("/proc/self/ns/pid")


class LockedError(ValueError):
    """Another process runs the sweep; the message says which, and since when."""


@dataclass(frozen=True)
class Owner:
    """The process that holds a lock.

    Attributes:
        host: name of the machine.
        pid: number of the process there.
        started: start time of that process, as the system counts it: numbers are reused, start times are not.
        since: ISO 8601 time in UTC at which the lock was taken.
        token: random text that tells two acquisitions apart.
        boot: boot of the machine in which the process ran; "" where it is unknown, as in a lock of an earlier
            version.
        namespace: namespace in which the process's number counts: containers have their own, even where they
            share the machine's name. "" where it is unknown.
    """

    host: str
    pid: Annotated[int, Bounds(1, _LARGEST_PID)]
    started: str
    since: str
    token: str
    boot: str = ""
    namespace: str = ""

    @classmethod
    def this_process(cls) -> "Owner":
        """Describe this process, now."""
        now = datetime.datetime.now(datetime.UTC)
        pid = os.getpid()
        return cls(
            socket.gethostname(),
            pid,
            _started(pid),
            f"{now:%Y-%m-%dT%H:%M:%SZ}",
            secrets.token_hex(8),
            _boot(),
            _namespace(),
        )

    @property
    def on_this_host(self) -> bool:
        """True if its machine has the name of this one."""
        return self.host == socket.gethostname()

    @property
    def here(self) -> bool:
        """True if it is a process of this machine whose number means the same here."""
        return self.on_this_host and not _differ(self.namespace, _namespace())

    @property
    def alive(self) -> bool:
        """True if it may still run, as far as can be seen from here."""
        if self.on_this_host and _differ(self.boot, _boot()):
            return False  # the machine has rebooted since
        if not self.here:
            return True
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass  # it exists, and belongs to somebody else
        return _started(self.pid) == self.started

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"


@contextlib.contextmanager
def hold(ledger: Ledger, force: bool = False) -> Iterator[None]:
    """Keep every other process from running the sweep.

    A lock that a process of this machine left when it died is taken over. Whether a process on another
    machine or in another container is alive cannot be seen from here, so its lock stands until somebody
    forces it.

    In a folder, a file is also locked with `flock`, which is released with its process, whatever container of
    this machine that was in; the owner's name is for people, and for file systems without locks. In a bucket
    there is only the name: two processes that start within the same second may both miss the other until one
    reads its own lock back.

    Args:
        ledger: directory of the sweep.
        force: True to take the lock of another machine or container.

    Raises:
        LockedError: the sweep is being run.
        StorageError: the lock cannot be written.
    """
    owner = Owner.this_process()
    with contextlib.ExitStack() as stack:
        locked = isinstance(ledger.storage, Folder) and stack.enter_context(
            _file_lock(ledger, ledger.storage.path / LOCK)
        )
        _refuse(ledger, force, locked)
        ledger.storage.write(LOCK, json.dumps(asdict(owner)).encode())
        found = read_owner(ledger)
        if found is None or found.token != owner.token:
            raise _locked(ledger, found)
        ledger.storage.drop_drafts()
        try:
            yield
        finally:
            still = read_owner(ledger)
            if still is not None and still.token == owner.token:
                ledger.storage.remove(LOCK)


def read_owner(ledger: Ledger) -> Owner | None:
    """Return the owner of a sweep's lock; None where there is none or it cannot be read."""
    try:
        values = read_json(ledger.storage.read(LOCK))
        known = {field.name for field in fields(Owner)}
        # a later version may note more
        ours = (
            {name: values[name] for name in known & values.keys()} if isinstance(values, Mapping) else values
        )
        return read_fields(Owner, ours, "not a whole lock", defaults=True)
    except (FileNotFoundError, ValueError):
        return None  # a lock is written as a whole: what cannot be read is not a lock


def _refuse(ledger: Ledger, force: bool, locked: bool) -> None:
    owner = read_owner(ledger)
    if owner is None or not owner.alive:
        return
    if owner.here:
        raise _locked(ledger, owner)
    if locked and owner.on_this_host:
        return  # from another container: its `flock` went with it
    if not force:
        raise _locked(ledger, owner)


def _locked(ledger: Ledger, owner: Owner | None, certain: bool = False) -> LockedError:
    """Build the error; where the owner is certainly alive, it does not mention --force."""
    name = ledger.facts.id
    if owner is None:
        return LockedError(f"sweep {name} is being run by another process; wait for its end")
    remedy = "wait for its end, or stop it"
    if not owner.here and not certain:
        remedy = "if that process is gone, which cannot be seen from here, add --force"
    return LockedError(f"sweep {name} is being run by {owner}; {remedy}")


@contextlib.contextmanager
def _file_lock(ledger: Ledger, path: Path) -> Iterator[bool]:
    """Hold `flock` on a file beside the lock; the lock itself is replaced, which would lose it.

    Yields:
        True if it is held: there are file systems without it.
    """
    guard = path.with_name(f".{path.name}")
    try:
        lock = acquire(guard, timeout=0)
    except Timeout:
        raise _locked(ledger, read_owner(ledger), certain=True) from None
    except OSError as error:
        raise StorageError(f"cannot write {guard}: {error.strerror}") from error
    try:
        yield lock.is_locked  # where it is not, the owner's text is all there is
    finally:
        guard.unlink(missing_ok=True)  # a process that waits for it notices, and makes it again
        lock.release()


def _boot() -> str:
    """Return what the kernel drew at the machine's last start; "" where the system does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _started(pid: int) -> str:
    """Return when a process started; "" where the system does not tell.

    In ticks since the machine's start: psutil's time is another one after the clock was set.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[19]


def _namespace() -> str:
    """Return the namespace of process numbers of this process; "" where the system does not tell."""
    try:
        return os.readlink(_NAMESPACE)
    except OSError:
        return ""


def _differ(one: str, other: str) -> bool:
    """Tell whether two facts are known and differ."""
    return bool(one and other) and one != other
