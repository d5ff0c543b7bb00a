"""A sweep as MLflow runs: one parent, and one nested child per member."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mlflow.entities import Metric
from mlflow.exceptions import MlflowException

from sweeps.tracking.batches import TAG_CHARACTERS, cut, log_in_batches, param_text
from sweeps.tracking.descriptions import experiment_note, sweep_note
from sweeps.tracking.entities import (
    data_inputs,
    front_values,
    member_metrics,
    member_params,
    progress_values,
)
from sweeps.tracking.links import run_page
from sweeps.tracking.members import member_note, network_name
from sweeps.tracking.outages import artifact_errors, is_collision, tracking_errors
from sweeps.tracking.provenance import provenance_tags
from sweeps.tracking.runs import (
    CAUSE_TAG,
    DATA_TAG,
    DATASET_TAG,
    MEMBER_TAG,
    NOTE_TAG,
    PARENT_TAG,
    SWEEP_TAG,
    MemberRun,
    experiment_id,
    member_run,
    sweep_runs,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

    from sweeps.ledger.records import Front, FrontPoint, MemberRecord

Status = Literal["FINISHED", "FAILED", "KILLED"]
_COLLISIONS = 5  # tries, where other sweeps do the same at the same time


class SweepWriter:
    """Writes one sweep into MLflow.

    Promises: runs are found again by their tags, so that whatever is written twice, by one process or by
    several in turn, is stored once; a member's run has its final status only once all of it is written. It is
    for one thread at a time. Every method raises `TrackingError` where the server cannot be reached or
    refuses, and `ServerAwayError` where that may pass; the call can then be repeated. MLflow's own retries
    apply: they take minutes and may write twice, so use it within `prompt_requests`.

    Args:
        client: client of the server.
    """

    def __init__(self, client: "MlflowClient") -> None:
        self._client = client
        self._uri = client.tracking_uri
        self._members: dict[str, MemberRun] = {}
        self._tried: set[str] = set()  # members whose run may exist although no answer said so
        self._run: Run | None = None
        self._dataset = ""
        self._reference_params: int | None = None

    @property
    def run_id(self) -> str:
        """Id of the parent run.

        Raises:
            ValueError: the sweep was not started.
        """
        return str(self._parent.info.run_id)

    @property
    def experiment_id(self) -> str:
        """Id of the experiment that holds the runs."""
        return str(self._parent.info.experiment_id)

    @property
    def page(self) -> str:
        """Page of the parent run, for `sweeps.tracking.links.address`."""
        return run_page(self.experiment_id, self.run_id)

    @property
    def status(self) -> str:
        """Status of the parent run when it was found."""
        return str(self._parent.info.status)

    def start(
        self,
        *,
        sweep: str,
        dataset: str,
        data_hash: str,
        params: Mapping[str, object],
        tags: Mapping[str, str] | None = None,
        reference_params: int | None = None,
        provenance: Mapping[str, str] | None = None,
        began: int | None = None,
        running: bool = True,
    ) -> str:
        """Create the sweep's run, or find it again and set it running.

        Args:
            sweep: id of the sweep.
            dataset: name of the data set.
            data_hash: content hash of the data set.
            params: configuration, flat. MLflow keeps a parameter's first value forever: one that a resumed
                sweep changed is kept beside it, as the tag `changed.<name>`.
            tags: further tags.
            reference_params: number of parameters of the model that ratios are relative to.
            provenance: versions of the software that ran the sweep; those of this process when None.
            began: start of the sweep, in milliseconds since 1970; now when None.
            running: True if it runs now. Otherwise an existing run keeps its status.

        Returns:
            The id of the sweep's run.
        """
        with tracking_errors(self._uri):
            self._dataset, self._reference_params = dataset, reference_params
            experiment = experiment_id(self._client, dataset)
            self._run, self._members = sweep_runs(self._client, experiment, sweep)
            self._tried = set()
            if self._run is None:
                self._run = self._client.create_run(
                    experiment, start_time=began, tags={SWEEP_TAG: sweep}, run_name=f"sweep {sweep}"
                )
            elif running:
                self._client.update_run(self.run_id, status="RUNNING")
            self._adopt_members()
            standing = self._run.data.params
            changed = {
                f"changed.{key}": value
                for key, value in params.items()
                if key in standing and standing[key] != param_text(value)
            }
            facts = {DATASET_TAG: dataset, DATA_TAG: data_hash, "mlflow.source.name": "arsvd sweep"}
            source = provenance_tags() if provenance is None else provenance
            log_in_batches(
                self._client,
                self.run_id,
                params={key: value for key, value in params.items() if key not in standing},
                tags={**facts, **source, **changed, **(tags or {})},
            )
            self._log_inputs(dataset, data_hash)
            return self.run_id

    def progress(
        self,
        *,
        members: int,
        points: int,
        hypervolume: float,
        best: "FrontPoint | None" = None,
        at: int | None = None,
    ) -> None:
        """Log how far the sweep is; the step is the number of members.

        Args:
            members: number of members done.
            points: number of operating points evaluated.
            hypervolume: hypervolume of the front so far.
            best: point that would be chosen now.
            at: time, in milliseconds since 1970; now when None. A call that is repeated must give the same
                time, or its values are stored twice.
        """
        values = progress_values(members, points, hypervolume, best, self._reference_params)
        stamp = now() if at is None else at
        with tracking_errors(self._uri):
            metrics = [Metric(key, value, stamp, members) for key, value in values.items()]
            log_in_batches(self._client, self.run_id, metrics=metrics)

    def progress_steps(self) -> set[int]:
        """Return the numbers of members for which progress is logged."""
        with tracking_errors(self._uri):
            history = self._client.get_metric_history(self.run_id, "hypervolume")
            return {int(metric.step) for metric in history}

    def member(self, record: "MemberRecord", ended: int | None = None) -> str:
        """Write one member: a note, parameters, curves, its dense and proposed points, its front.

        A complete member is left alone. One that an earlier process left incomplete, that an earlier release
        wrote without a note, or that failed and has finished since, is completed.

        Args:
            record: record of the member.
            ended: time when it was done, in milliseconds since 1970; now when None.

        Returns:
            The id of the member's run.
        """
        status: Status = "FINISHED" if record.status == "finished" else "FAILED"
        ended = now() if ended is None else ended
        with tracking_errors(self._uri):
            child = self._members.get(record.key)
            if child is None:
                child = self._members[record.key] = self._new_member(record, ended)
            if child.status == status and child.has_note:
                return child.run_id
            failed = {CAUSE_TAG: cut(record.cause or "unknown", TAG_CHARACTERS)} if status == "FAILED" else {}
            note = {NOTE_TAG: member_note(record, self._reference_params)}
            params = member_params(record)
            log_in_batches(
                self._client,
                child.run_id,
                params={key: value for key, value in params.items() if key not in child.params},
                tags=failed | note,
                # The run's own start, which the server keeps, stamps every value: written again, it is equal
                # to what is there and MLflow stores it once.
                metrics=member_metrics(record, self._reference_params, child.start_time),
            )
            child.params |= params.keys()
            if child.has_cause and not failed:
                self._delete_cause(child)
            child.has_cause, child.has_note = bool(failed), True
            self._client.set_terminated(child.run_id, status, end_time=max(ended, child.start_time))
            child.status = status
            return child.run_id

    def finish(
        self,
        status: Status,
        artifacts: Sequence[Path] = (),
        front: "Front | None" = None,
        ended: int | None = None,
    ) -> None:
        """Upload the report, describe the results in words, and close the sweep's run.

        Args:
            status: final status of the run.
            artifacts: files for the run's artifact folder.
            front: final front, for the summary metrics and the descriptions.
            ended: end of the sweep, in milliseconds since 1970; now when None.
        """
        with artifact_errors(self._uri):
            for path in artifacts:
                self._client.log_artifact(self.run_id, str(path))
        with tracking_errors(self._uri):
            standing = self._client.get_run(self.run_id)
            if front is not None:
                self._summarise(front, standing)
            if standing.info.status != status:
                self._client.set_terminated(self.run_id, status, end_time=ended)

    @property
    def _parent(self) -> "Run":
        if self._run is None:
            raise ValueError("the sweep was not started; call start first")
        return self._run

    def _adopt_members(self) -> None:
        """Nest the members of a sweep whose run was deleted in the one that replaces it."""
        for child in self._members.values():
            if child.parent != self.run_id:
                self._client.set_tag(child.run_id, PARENT_TAG, self.run_id)
                child.parent = self.run_id

    def _log_inputs(self, dataset: str, data_hash: str) -> None:
        for left in reversed(range(_COLLISIONS)):
            try:
                self._client.log_inputs(self.run_id, data_inputs(dataset, data_hash))
                return
            except MlflowException as error:
                # another sweep on the same data logged it at the same time
                if not (left and is_collision(error)):
                    raise

    def _summarise(self, front: "Front", standing: "Run") -> None:
        # The members' step of the last progress, so that best_accuracy continues where progress left it.
        there = standing.data.metrics
        step, stamp = int(there.get("members", 0)), now()
        values = front_values(front, self._reference_params)
        log_in_batches(
            self._client,
            self.run_id,
            metrics=[Metric(key, v, stamp, step) for key, v in values.items() if there.get(key) != v],
            tags={NOTE_TAG: sweep_note(self._dataset, front, len(self._members))},
        )
        self._client.set_experiment_tag(self.experiment_id, NOTE_TAG, experiment_note(self._dataset))

    def _new_member(self, record: "MemberRecord", ended: int) -> MemberRun:
        sweep = self._parent.data.tags[SWEEP_TAG]
        if record.key in self._tried:
            found = member_run(self._client, self.experiment_id, sweep, record.key)
            if found is not None:
                return found
        self._tried.add(record.key)
        run = self._client.create_run(
            self.experiment_id,
            # so that the run's duration is what the member took, not what writing it took
            start_time=ended - int(1000 * sum(record.seconds.values())),
            tags={PARENT_TAG: self.run_id, SWEEP_TAG: sweep, MEMBER_TAG: record.key},
            run_name=f"member {record.number}: {network_name(record.config)}",
        )
        return MemberRun.of(run)

    def _delete_cause(self, child: MemberRun) -> None:
        try:
            self._client.delete_tag(child.run_id, CAUSE_TAG)
        except MlflowException as error:
            # deleted by an earlier try, whose answer was lost
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise


def now() -> int:
    """Return the time as MLflow counts it, in milliseconds since 1970."""
    return time.time_ns() // 1_000_000
