"""The driver's view of a running sweep: takes in members as they are filed, and informs people and MLflow."""

import time
from collections.abc import Iterable, Mapping, Sequence

from sweeps.ledger.best_so_far import BestSoFar
from sweeps.ledger.joined_front import GrowingFront
from sweeps.ledger.ledger import Ledger
from sweeps.ledger.records import FAILED, Front, MemberRecord
from sweeps.ledger.storage import StorageError
from sweeps.run.pace import Pace
from sweeps.run.progress import Progress, State
from sweeps.tracking import SweepWriter
from sweeps.tracking.publishing import write_member
from sweeps.tracking.worker import Worker
from sweeps.tracking.writer import now
from sweeps.trial.epochs import Trained

_APPEAR_SECONDS, _LOOK_SECONDS = 15, 0.2


class Session:
    """The state of a sweep in the process that runs it. For the driver's thread.

    Args:
        ledger: directory of the sweep.
        planned: number of members at the end.
        max_drop: largest drop in accuracy of the best point; see `GrowingFront`.
        writer: writer of the sweep's runs, started.
        worker: thread that writes them, in order.
        progress: display for people.
        places: number of trials that run at a time.
    """

    def __init__(
        self,
        ledger: Ledger,
        planned: int,
        max_drop: float,
        writer: SweepWriter,
        worker: Worker,
        progress: Progress,
        places: int = 1,
    ) -> None:
        self._ledger, self._planned = ledger, planned
        self._pace = Pace(planned, places)
        facts = ledger.facts
        self._growing = GrowingFront(facts.reference, max_drop, facts.validation_images)
        self._writer, self._worker, self._progress = writer, worker, progress
        self._records: dict[str, MemberRecord] = {}
        self._best = BestSoFar()
        self._front: Front | None = None
        self._away = False

    @property
    def records(self) -> list[MemberRecord]:
        """Members on file, in the order of their trials."""
        return sorted(self._records.values(), key=lambda record: record.number)

    @property
    def front(self) -> Front:
        """Front of the members on file."""
        if self._front is None:
            self._front = self._growing.front()
        return self._front

    def note(self, text: str) -> None:
        """Show a message to people."""
        self._progress.note(text)

    def begin(self, records: Sequence[MemberRecord]) -> None:
        """Take in the members of a sweep that continues; MLflow gets those that it lacks.

        Raises:
            StorageError: the sweep's directory cannot be written.
        """
        for record in records:
            self._take(record)
        if records:
            self._best.write(self._ledger.storage)

    def members_filed(self, keys: Iterable[str], trial: str) -> None:
        """Take in the members of a pack that has ended, whose records were written.

        Args:
            keys: keys of the members.
            trial: id of the trial that trained them.

        Raises:
            StorageError: a record does not appear here, on whatever machine it was written; or the sweep's
                directory cannot be written.
        """
        self._pace.ended(trial)
        for key in keys:
            self._take(self._filed(key))
        self._best.write(self._ledger.storage)  # before the next members of these processes are measured
        front, points = self.front, self._points
        self._show()
        self._worker.submit(
            self._writer.progress,
            members=len(self._records),
            points=points,
            hypervolume=front.hypervolume,
            best=front.best,
            at=now(),  # a call that is repeated must give the same time
            label=f"progress at {len(self._records)} members",
        )
        self._tell_outage()

    def training(self, trials: Mapping[str, Sequence[int]], found: Mapping[str, Trained]) -> None:
        """Register which trials run, and show it where anything has changed.

        Args:
            trials: number of epochs for each member of a trial, by trial id.
            found: results that trials have reported.
        """
        if self._pace.running(trials, found):
            self._show()

    def _show(self) -> None:
        failed = sum(record.status == FAILED for record in self._records.values())
        pace = self._pace.estimate()
        self._progress.update(
            State(
                len(self._records),
                failed,
                self._planned,
                self._points,
                self.front,
                pace.epochs,
                pace.all_epochs,
                pace.left,
                pace.least,
            )
        )

    @property
    def _points(self) -> int:
        return sum(len(record.points) for record in self._records.values())

    def _filed(self, key: str) -> MemberRecord:
        """Read a record that a trial has written, which network file systems may show late."""
        end = time.monotonic() + _APPEAR_SECONDS
        while (record := self._ledger.member(key)) is None:
            if time.monotonic() > end:
                raise StorageError(
                    f"the record of member {key} was written, and does not show in {self._ledger.location} "
                    f"after {_APPEAR_SECONDS} s"
                )
            time.sleep(_LOOK_SECONDS)
        return record

    def _tell_outage(self) -> None:
        """Say once that MLflow is away, and once that it is back."""
        cause = self._worker.away
        if cause is not None and not self._away:
            self._progress.note(f"{cause}; training goes on, and what is to be written waits")
        elif cause is None and self._away:
            self._progress.note("the tracking server answers again")
        self._away = cause is not None

    def _take(self, record: MemberRecord) -> None:
        if record.key not in self._records:
            self._growing.add(record)
            self._best.add(record)
            self._pace.add(record)
            self._front = None
        self._records[record.key] = record
        # the key and not the record: a queue for a server that is away may grow long
        label = f"member {record.number}"
        self._worker.submit(write_member, self._writer, self._ledger, record.key, label=label)
