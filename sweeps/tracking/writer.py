"""A sweep as MLflow runs: one parent, one nested child per member."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric
from mlflow.exceptions import MlflowException

from arsvd.evaluation import OperatingPoint
from arsvd.fronts import pareto
from sweeps.tracking.batches import TAG_CHARACTERS, cut, log_in_batches, param_text
from sweeps.tracking.connection import artifact_location, tracking_errors
from sweeps.tracking.descriptions import experiment_note, model_note, sweep_note
from sweeps.tracking.provenance import provenance_tags
from sweeps.tracking.versions import registered_name

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

    from sweeps.records import Front, FrontPoint, MemberRecord

Status = Literal["FINISHED", "FAILED", "KILLED"]
SWEEP_TAG, MEMBER_TAG, CAUSE_TAG = "arsvd.sweep", "arsvd.member", "arsvd.cause"
DATA_TAG, DATASET_TAG = "arsvd.data_hash", "arsvd.dataset"
# The UI shows an experiment of unknown kind in its view for language-model applications.
_EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
_DIGEST_CHARACTERS = 36  # MLflow's limit for a data set's digest
_PAGE = 1000


@dataclass
class _Child:
    """What is known of a member's run without asking the server again."""

    run_id: str
    start_time: int
    status: str
    params: set[str]
    has_cause: bool

    @classmethod
    def of(cls, run: "Run") -> "_Child":
        return cls(
            run_id=str(run.info.run_id),
            start_time=int(run.info.start_time),
            status=str(run.info.status),
            params=set(run.data.params),
            has_cause=CAUSE_TAG in run.data.tags,
        )


class SweepWriter:
    """Writes one sweep into MLflow.

    Promises: runs are found again by their tags, so that whatever is written twice, by one process or by
    several in turn, is there once; a member's run has its final status only once all of it is written.
    It is for one thread at a time. Every method raises `TrackingError` where the server cannot be reached or
    refuses; the call can then be repeated. MLflow's own retries apply, which at its defaults take minutes.

    Args:
        client: the server.
    """

    def __init__(self, client: "MlflowClient") -> None:
        self._client = client
        self._uri = client.tracking_uri
        self._members: dict[str, _Child] = {}
        self._run: Run | None = None
        self._dataset = ""
        self._reference_params: int | None = None

    @property
    def run_id(self) -> str:
        """The parent run.

        Raises:
            ValueError: the sweep was not started.
        """
        return str(self._parent.info.run_id)

    @property
    def experiment_id(self) -> str:
        """The experiment that holds the runs."""
        return str(self._parent.info.experiment_id)

    def start(
        self,
        *,
        sweep: str,
        dataset: str,
        data_hash: str,
        params: Mapping[str, object],
        tags: Mapping[str, str] | None = None,
        reference_params: int | None = None,
    ) -> str:
        """Create the sweep's run, or find it again and set it running.

        Args:
            sweep: the sweep's id.
            dataset: the data set's name.
            data_hash: the data set's content hash.
            params: the configuration, flat. MLflow keeps a parameter's first value for ever: one that a
                resumed sweep changed is kept beside it, as the tag `changed.<name>`.
            tags: further tags.
            reference_params: parameters of the model that ratios are counted against.

        Returns:
            The id of the sweep's run.
        """
        with tracking_errors(self._uri):
            self._dataset, self._reference_params = dataset, reference_params
            experiment = self._experiment(f"arsvd-{dataset}")
            found = self._search(experiment, f"tags.`{SWEEP_TAG}` = '{sweep}'")
            children = [run for run in found if MEMBER_TAG in run.data.tags]
            self._members = {run.data.tags[MEMBER_TAG]: _Child.of(run) for run in children}
            parents = [run for run in found if MEMBER_TAG not in run.data.tags]
            if parents:
                self._run = min(parents, key=lambda run: int(run.info.start_time))
                self._client.update_run(self.run_id, status="RUNNING")
            else:
                self._run = self._create(experiment, f"sweep {sweep}", {SWEEP_TAG: sweep})
            standing = self._run.data.params
            changed = {
                f"changed.{key}": value
                for key, value in params.items()
                if key in standing and standing[key] != param_text(value)
            }
            facts = {DATASET_TAG: dataset, DATA_TAG: data_hash, "mlflow.source.name": "arsvd sweep"}
            log_in_batches(
                self._client,
                self.run_id,
                params={key: value for key, value in params.items() if key not in standing},
                tags={**facts, **provenance_tags(), **changed, **(tags or {})},
            )
            self._client.log_inputs(self.run_id, data_inputs(dataset, data_hash))
            return self.run_id

    def progress(
        self, *, members: int, points: int, hypervolume: float, best: "FrontPoint | None" = None
    ) -> None:
        """Log how far the sweep is; the step is the number of members.

        Args:
            members: members done.
            points: operating points evaluated.
            hypervolume: of the front so far.
            best: the point that would be chosen now.
        """
        values: dict[str, float] = {"members": members, "points": points, "hypervolume": hypervolume}
        if best is not None:
            values |= {"best_accuracy": best.point.accuracy, "best_params": best.point.params}
            values |= self._ratio("best_ratio", best.point)
        stamp = _now()
        with tracking_errors(self._uri):
            metrics = [Metric(key, value, stamp, members) for key, value in values.items()]
            log_in_batches(self._client, self.run_id, metrics=metrics)

    def member(self, record: "MemberRecord") -> str:
        """Write one member: parameters, curves, its dense and asked points, its front.

        A member that is there whole is left alone; one that an earlier process left half-written, or that
        failed and has finished since, is completed.

        Returns:
            The id of the member's run.
        """
        status: Status = "FINISHED" if record.status == "finished" else "FAILED"
        with tracking_errors(self._uri):
            child = self._members.get(record.key)
            if child is None:
                child = self._members[record.key] = _Child.of(self._create_member(record))
            if child.status == status:
                return child.run_id
            failed = {CAUSE_TAG: cut(record.cause or "unknown", TAG_CHARACTERS)} if status == "FAILED" else {}
            params = _params(record)
            log_in_batches(
                self._client,
                child.run_id,
                params={key: value for key, value in params.items() if key not in child.params},
                tags=failed,
                # The run's own start, which the server keeps, stamps every value: written again, it is equal
                # to what is there and MLflow stores it once.
                metrics=self._metrics(record, child.start_time),
            )
            if child.has_cause and not failed:
                self._client.delete_tag(child.run_id, CAUSE_TAG)
            self._client.set_terminated(child.run_id, status, end_time=max(_now(), child.start_time))
            child.status, child.has_cause = status, bool(failed)
            child.params |= params.keys()
            return child.run_id

    def finish(self, status: Status, artifacts: Sequence[Path] = (), front: "Front | None" = None) -> None:
        """Upload the report, say in words what was found, and close the sweep's run.

        Args:
            status: the run's final status.
            artifacts: files for the run's artifact folder.
            front: the final front, for the summary metrics and the descriptions.
        """
        with tracking_errors(self._uri):
            for path in artifacts:
                self._client.log_artifact(self.run_id, str(path))
            if front is not None:
                self._summarise(front)
            self._client.set_terminated(self.run_id, status)

    @property
    def _parent(self) -> "Run":
        if self._run is None:
            raise ValueError("the sweep was not started; call start first")
        return self._run

    def _summarise(self, front: "Front") -> None:
        values = {"final_hypervolume": front.hypervolume, "dense_accuracy": front.dense_accuracy}
        for name, baseline in front.baselines.items():
            values[f"{name.replace(' ', '_')}_hypervolume"] = baseline.hypervolume
        if front.best is not None:
            values |= _point_values("best", front.best.point) | self._ratio("best_ratio", front.best.point)
            if front.best.test is not None:
                values |= {
                    "best_test_accuracy": front.best.test.accuracy,
                    "best_test_macro_f1": front.best.test.macro_f1,
                }
        # The members' step of the last progress, so that best_accuracy goes on where progress left it.
        step = int(self._client.get_run(self.run_id).data.metrics.get("members", 0))
        stamp = _now()
        log_in_batches(
            self._client,
            self.run_id,
            metrics=[Metric(key, value, stamp, step) for key, value in values.items()],
            tags={"mlflow.note.content": sweep_note(self._dataset, front, len(self._members))},
        )
        self._client.set_experiment_tag(
            self.experiment_id, "mlflow.note.content", experiment_note(self._dataset)
        )
        try:
            self._client.update_registered_model(
                registered_name(self._dataset), model_note(self._dataset, front)
            )
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise

    def _experiment(self, name: str) -> str:
        experiment = self._client.get_experiment_by_name(name)
        if experiment is None:
            try:
                location = artifact_location(self._uri, name)
                return str(self._client.create_experiment(name, location, _EXPERIMENT_TAGS))
            except MlflowException as error:
                # another sweep on the same data created it in between
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                experiment = self._client.get_experiment_by_name(name)
        if experiment is None or experiment.lifecycle_stage != "active":
            raise MlflowException(
                f"the experiment {name!r} is deleted; restore it with `mlflow experiments restore`, "
                "or remove it for good with `mlflow gc`"
            )
        return str(experiment.experiment_id)

    def _search(self, experiment: str, condition: str) -> "list[Run]":
        runs: list[Run] = []
        token: str | None = None
        while True:
            page = self._client.search_runs([experiment], condition, max_results=_PAGE, page_token=token)
            runs += page
            token = page.token
            if not token:
                return runs

    def _create(
        self, experiment: str, name: str, tags: Mapping[str, str], start_time: int | None = None
    ) -> "Run":
        return self._client.create_run(experiment, start_time=start_time, tags=dict(tags), run_name=name)

    def _create_member(self, record: "MemberRecord") -> "Run":
        widths = "-".join(str(width) for width in record.config.hidden)
        factors = f" ×{record.config.factors}" if record.config.factors > 1 else ""
        return self._create(
            self.experiment_id,
            f"member {record.number}: {widths}{factors}",
            {
                "mlflow.parentRunId": self.run_id,
                SWEEP_TAG: self._parent.data.tags[SWEEP_TAG],
                MEMBER_TAG: record.key,
            },
            # so that the run's duration is what the member took, not what writing it took
            start_time=_now() - int(1000 * sum(record.seconds.values())),
        )

    def _ratio(self, name: str, point: OperatingPoint) -> dict[str, float]:
        return {name: self._reference_params / point.params} if self._reference_params else {}

    def _metrics(self, record: "MemberRecord", stamp: int) -> list[Metric]:
        metrics = [
            Metric(name, value, stamp, epoch)
            for name, curve in record.curves.items()
            for epoch, value in enumerate(curve, start=1)
        ]
        single = {f"seconds_{name}": value for name, value in record.seconds.items()}
        if record.dense is not None:
            single |= _point_values("dense", record.dense)
        if record.asked is not None:
            single |= _point_values("asked", record.asked) | self._ratio("asked_ratio", record.asked)
        metrics += [Metric(name, value, stamp, 0) for name, value in single.items()]
        metrics += [
            Metric(f"front_{name}", value, stamp, point.params)
            for point in pareto(record.points)
            for name, value in (
                ("accuracy", point.accuracy),
                ("macro_f1", point.macro_f1),
                ("macs", point.macs),
            )
        ]
        return metrics


def data_inputs(dataset: str, data_hash: str) -> list[DatasetInput]:
    """Return the three splits of a data set as MLflow links them to runs and metrics.

    Args:
        dataset: the data set's name.
        data_hash: the data set's content hash.
    """
    return [
        DatasetInput(
            Dataset(split_name(dataset, split), digest(data_hash), "local", f'{{"sha256": "{data_hash}"}}'),
            [InputTag("mlflow.data.context", context)],
        )
        for split, context in (("train", "training"), ("validation", "validation"), ("test", "testing"))
    ]


def split_name(dataset: str, split: str) -> str:
    """Return the name under which MLflow knows one split of a data set."""
    return f"{dataset} {split}"


def digest(data_hash: str) -> str:
    """Return a content hash at the length that MLflow takes."""
    return data_hash[:_DIGEST_CHARACTERS]


def _params(record: "MemberRecord") -> dict[str, object]:
    values = record.config.to_dict()
    values["hidden"] = "-".join(str(width) for width in record.config.hidden)
    return values


def _point_values(prefix: str, point: OperatingPoint) -> dict[str, float]:
    names = ("accuracy", "macro_f1", "loss", "params", "macs")
    return {f"{prefix}_{name}": float(getattr(point, name)) for name in names}


def _now() -> int:
    return time.time_ns() // 1_000_000
