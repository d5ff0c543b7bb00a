"""How far a sweep is, in epochs, and how long it will still take."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sweeps.ledger.records import FINISHED, MemberRecord
from sweeps.trial.epochs import Trained


@dataclass(frozen=True)
class Estimate:
    """The progress of a sweep.

    Attributes:
        epochs: number of epochs that members have had, on file or in training.
        all_epochs: number of epochs that all members will have had; members not yet proposed count as the
            others on average.
        left: seconds until the last member is on file; None while nothing is known.
        least: True if `left` is only a lower bound, since no member was measured yet.
    """

    epochs: int
    all_epochs: int
    left: float | None
    least: bool


class Pace:
    """Estimates from measurements: seconds per epoch, and seconds per member after its training.

    Args:
        planned: number of members at the end.
        places: number of trials that run at a time.
        clock: clock in seconds.
    """

    def __init__(self, planned: int, places: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._planned, self._places, self._clock = planned, places, clock
        self._filed = self._filed_epochs = 0
        self._measured = self._measured_epochs = 0
        self._training = self._after = 0.0
        self._trials: dict[str, tuple[int, ...]] = {}
        self._found: dict[str, Trained] = {}
        self._trained_at: dict[str, float] = {}

    def add(self, record: MemberRecord) -> None:
        """Add a member that is on file."""
        self._filed += 1
        self._filed_epochs += record.config.epochs
        if record.status == FINISHED:
            self._measured += 1
            self._measured_epochs += record.config.epochs
            training = record.seconds.get("train", 0.0)
            self._training += training
            self._after += sum(record.seconds.values()) - training

    def running(self, trials: Mapping[str, Sequence[int]], found: Mapping[str, Trained]) -> bool:
        """Register which trials run.

        Args:
            trials: number of epochs for each member of a trial, by trial id.
            found: results that trials have reported.

        Returns:
            True if anything has changed.
        """
        before = (self._trials, self._found)
        self._trials = {trial: tuple(epochs) for trial, epochs in trials.items()}
        self._found = {trial: found[trial] for trial in trials if trial in found}
        for trial, trained in self._found.items():
            if trained.done >= trained.total:
                self._trained_at.setdefault(trial, self._clock())
            else:
                self._trained_at.pop(trial, None)
        return before != (self._trials, self._found)

    def ended(self, trial: str) -> None:
        """Register the end of a trial; its members are added, or will be trained again."""
        self._trials.pop(trial, None)
        self._found.pop(trial, None)

    def estimate(self) -> Estimate:
        """Estimate how far the sweep is."""
        members = sum(map(len, self._trials.values()))
        running = sum(map(sum, self._trials.values()))
        waiting = max(0, self._planned - self._filed - members)
        known = self._filed_epochs + running
        epochs_each = known / max(1, self._filed + members)
        total = known + round(waiting * epochs_each)
        # a trial's report leaves out members that it found on file
        done = sum(sum(self._trials[t]) - max(0, r.total - r.done) for t, r in self._found.items())
        done = self._filed_epochs + max(0, done)
        fresh = self._measured_epochs + sum(trained.fresh for trained in self._found.values())
        left = None
        if fresh:
            seconds = self._training + sum(trained.seconds for trained in self._found.values())
            after = self._after / self._measured if self._measured else 0.0
            work = max(0, total - done) * seconds / fresh + self._after_left(after, waiting)
            left = work / max(1, min(self._places, len(self._trials) + waiting))
        return Estimate(done, total, left, least=not self._measured)

    def _after_left(self, after: float, waiting: int) -> float:
        """Return the seconds of measuring and recovery that are left."""
        now, left = self._clock(), waiting * after
        for trial, epochs in self._trials.items():
            spent = now - self._trained_at.get(trial, now)
            left += max(0.0, len(epochs) * after - spent)
        return left
