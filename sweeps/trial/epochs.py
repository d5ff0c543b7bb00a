"""How many epochs members in training have had: from the trials' processes to the driver, through Ray.

The numbers go into the key-value store of Ray's control service: no further process, and one call of about a
millisecond per second and trial. Only the display depends on them, so whatever fails here is ignored.
"""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from ray.experimental import internal_kv

_SECONDS = 1.0  # between two reports of a trial, and between two looks
_LOOK_SHARE = 20  # multiple of a look's own time that passes until the next one, where there are many trials


@dataclass(frozen=True)
class Trained:
    """The progress of the members that a trial trains.

    Attributes:
        total: number of epochs of all its members together.
        done: number of these epochs that are done.
        fresh: number of epochs done in this process: a member may continue from a checkpoint.
        seconds: seconds since the trial began to train.
    """

    total: int
    done: int = 0
    fresh: int = 0
    seconds: float = 0.0


class EpochReport:
    """Tells the driver, from a trial, how far its members are; at most once a second, and at the end.

    Args:
        sweep: id of the sweep.
        trial: id of the trial.
        total: number of epochs of all members that are to be trained.
        write: function that keeps a value under a key.
    """

    def __init__(
        self, sweep: str, trial: str, total: int, write: Callable[[str, bytes], object] | None = None
    ) -> None:
        self._key, self._total = _key(sweep, trial), total
        self._write = write or _put
        self._epochs: dict[int, int] = {}
        self._before: dict[int, int] = {}
        self._began, self._told = time.monotonic(), -float("inf")

    def __call__(self, members: Sequence[int], epoch: int) -> None:
        """Record that members have had this many epochs.

        Args:
            members: numbers of the members.
            epoch: number of epochs that each has had.
        """
        for number in members:
            self._epochs[number] = epoch
            self._before.setdefault(number, epoch - 1)
        now, done = time.monotonic(), sum(self._epochs.values())
        if now - self._told < _SECONDS and done < self._total:
            return
        self._told = now
        # a pack that is halved starts anew, and would have had fewer epochs than before
        fresh = max(0, done - sum(self._before.values()))
        told = Trained(self._total, done, fresh, now - self._began)
        with contextlib.suppress(Exception):  # a progress bar is not worth a member
            self._write(self._key, json.dumps(asdict(told)).encode())


class EpochReports:
    """Reads the trials' reports in the driver, on a thread of its own.

    Args:
        sweep: id of the sweep.
        read: function that returns the value under a key; None where there is none.
        forget: function that removes all keys with a given beginning.
    """

    def __init__(
        self,
        sweep: str,
        read: Callable[[str], bytes | None] | None = None,
        forget: Callable[[str], object] | None = None,
    ) -> None:
        self._sweep = sweep
        self._read, self._forget = read or internal_kv._internal_kv_get, forget or _delete
        self._trials: tuple[str, ...] = ()
        self._found: dict[str, Trained] = {}
        self._ended = threading.Event()
        # not waited for: the control service may be gone
        threading.Thread(target=self._look, name="epoch-reports", daemon=True).start()

    def of(self, trials: Iterable[str]) -> Mapping[str, Trained]:
        """Return what is known about trials; from now on these are watched."""
        self._trials = tuple(trials)
        return {trial: self._found[trial] for trial in self._trials if trial in self._found}

    def close(self) -> None:
        """Stop reading, and leave nothing in a cluster that continues to run."""
        self._ended.set()

    def _look(self) -> None:
        pause = _SECONDS
        while not self._ended.wait(pause):
            began = time.monotonic()
            for trial in self._trials:
                with contextlib.suppress(Exception):  # as above
                    content = self._read(_key(self._sweep, trial))
                    if content is not None:
                        self._found[trial] = Trained(**json.loads(content))
            pause = max(_SECONDS, _LOOK_SHARE * (time.monotonic() - began))
        with contextlib.suppress(Exception):
            self._forget(_key(self._sweep, ""))


def _key(sweep: str, trial: str) -> str:
    return f"arsvd/epochs/{sweep}/{trial}"


def _put(key: str, value: bytes) -> None:
    if internal_kv._internal_kv_initialized():
        internal_kv._internal_kv_put(key, value)


def _delete(beginning: str) -> None:
    internal_kv._internal_kv_del(beginning, del_by_prefix=True)
