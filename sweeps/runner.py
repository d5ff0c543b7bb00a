"""Run a sweep: prepare without a trace, train the members, finish with models and report."""

import contextlib
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from mlflow import MlflowClient
from ray import tune

from arsvd.data import Dataset, load
from sweeps.config import SweepConfig, config_to_params
from sweeps.finish import Finished, finish
from sweeps.fronts import reference_size, sweep_front
from sweeps.ledger import Ledger
from sweeps.progress import Progress, Quiet, State
from sweeps.records import FAILED, Front, MemberRecord
from sweeps.resources import TrialResources, fit_resources
from sweeps.search import PackSearcher, Study
from sweeps.search.driver_only import DriverOnly
from sweeps.tracking import SweepWriter, TrackingError, connect
from sweeps.trial.trainable import PackTrainable
from sweeps.trial.workbench import Analysis
from sweeps.worker import Worker

RETRIES = 2  # of a trial whose process died; a member that raises is recorded as failed and not retried


@dataclass(frozen=True)
class Prepared:
    """A sweep that can start: everything that could be wrong with its inputs was checked.

    Attributes:
        config: the checked configuration.
        dataset: the data, loaded.
        home: where sweeps are kept.
        client: an MLflow server that answers.
    """

    config: SweepConfig
    dataset: Dataset
    home: Path
    client: MlflowClient

    @property
    def reference(self) -> tuple[int, int]:
        """Parameters and MACs of the reference model."""
        hidden = self.config.model.reference
        return reference_size([self.dataset.features, *hidden, len(self.dataset.classes)])


@dataclass(frozen=True)
class SweepOutcome:
    """What a sweep led to.

    Attributes:
        ledger: its directory.
        front: its final front.
        finished: what was logged and registered.
        members: members finished.
        failed: members failed.
    """

    ledger: Ledger
    front: Front
    finished: Finished
    members: int
    failed: int


class SweepFailedError(RuntimeError):
    """No member of a sweep could be trained."""


def prepare(config: SweepConfig, home: Path, data_dir: Path | None = None) -> Prepared:
    """Load the data and reach the tracking server; leave nothing behind where either fails.

    Args:
        config: the checked configuration.
        home: where sweeps are kept.
        data_dir: where data sets lie; see `arsvd.data.data_root`.

    Raises:
        DataError: the data is missing, broken or too small.
        TrackingError: the tracking server does not answer.
    """
    wanted = config.dataset
    dataset = load(
        wanted.name,
        root=data_dir,
        path=wanted.path,
        validation=wanted.validation,
        seed=wanted.seed,
        size=wanted.size,
        **({} if wanted.test is None else {"test": wanted.test}),
    )
    if wanted.path is not None:
        # folders are many: models are registered under the folder's name, not under "imagefolder"
        dataset = replace(dataset, name=_slug(Path(wanted.path).resolve().name) or dataset.name)
    return Prepared(config, dataset, home, connect())


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def run_sweep(prepared: Prepared, progress: Progress | None = None) -> SweepOutcome:
    """Train, compress and measure every member, then log and register the front.

    Ray must be running in this process: `ray.init()`, or the `arsvd` command, starts it.

    Args:
        prepared: from `prepare`.
        progress: what a person sees; nothing when None.

    Returns:
        The sweep's directory, front and models.

    Raises:
        SweepFailedError: every member failed; the first cause is named.
        ResourcesError: the cluster cannot run one trial.
    """
    if not ray.is_initialized():
        raise RuntimeError("Ray is not running in this process: call ray.init() first")
    progress = progress or Quiet()
    config, dataset = prepared.config, prepared.dataset
    resources = fit_resources(config, ray.cluster_resources(), dataset.features, len(dataset.classes))
    ledger = Ledger.create(prepared.home, config, dataset, prepared.reference)
    progress.note(f"sweep {ledger.facts.id}: {config.search.trials} members, {_plan_text(resources)}")
    with _sweep_run(prepared, ledger) as (writer, worker):
        session = _Session(prepared, ledger, writer, worker, progress)
        study = Study.in_journal(ledger.journal, ledger.facts.id, config, dataset.hash)
        searcher = PackSearcher(study, config.search.trials, resources.pack, ledger.member, dataset.hash)
        _tune(prepared, ledger, searcher, session, resources)
        worker.wait()
        records = ledger.members()
        front = session.front(records)
        if not front.points:
            causes = [record.cause for record in records if record.cause]
            raise SweepFailedError(
                f"no member of sweep {ledger.facts.id} was trained"
                + (f"; the first failed with: {causes[0]}" if causes else "; its trials left no record")
            )
        finished = finish(ledger, prepared.dataset, front, records, prepared.client, writer, config, progress)
    failed = sum(record.status == FAILED for record in records)
    return SweepOutcome(ledger, finished.front, finished, len(records) - failed, failed)


class _Session:
    """The driver's view of a running sweep; receives members as they are filed."""

    def __init__(
        self, prepared: Prepared, ledger: Ledger, writer: SweepWriter, worker: Worker, progress: Progress
    ) -> None:
        self._prepared, self._ledger = prepared, ledger
        self._writer, self._worker, self._progress = writer, worker, progress
        self._records: dict[str, MemberRecord] = {}

    def front(self, records: list[MemberRecord]) -> Front:
        """Join members into a front."""
        config = self._prepared.config
        images = len(self._prepared.dataset.validation)
        return sweep_front(records, self._prepared.reference, config.select.max_drop, images)

    def members_filed(self, keys: list[str]) -> None:
        """Take in the members of a pack that has ended."""
        for key in keys:
            record = self._ledger.member(key)
            if record is not None:
                self._records[key] = record
                self._worker.submit(self._writer.member, record)
        records = list(self._records.values())
        front = self.front(records)
        points = sum(len(record.points) for record in records)
        failed = sum(record.status == FAILED for record in records)
        state = State(len(records), failed, self._prepared.config.search.trials, points, front)
        self._progress.update(state)
        self._worker.submit(
            self._writer.progress,
            members=state.done,
            points=points,
            hypervolume=front.hypervolume,
            best=front.best,
        )


class _Callback(DriverOnly, tune.Callback):
    """Hands ended packs to the session."""

    def __init__(self, session: _Session) -> None:
        self._session = session

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any
    ) -> None:
        self._session.members_filed(result["keys"])


@contextlib.contextmanager
def _sweep_run(prepared: Prepared, ledger: Ledger) -> Iterator[tuple[SweepWriter, Worker]]:
    """Open the sweep's MLflow run, and close it whatever happens."""
    writer = SweepWriter(prepared.client)
    facts = ledger.facts
    writer.start(
        sweep=facts.id,
        dataset=facts.dataset,
        data_hash=facts.data_hash,
        params=config_to_params(prepared.config),
        reference_params=prepared.reference[0],
    )
    with Worker() as worker:
        try:
            yield writer, worker
        except BaseException as error:
            worker.cancel()
            with contextlib.suppress(TrackingError):  # the first error is the one to report
                writer.finish("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
            raise


def _tune(
    prepared: Prepared, ledger: Ledger, searcher: PackSearcher, session: _Session, resources: TrialResources
) -> None:
    """Let Ray Tune run the packs; returns when the searcher has no more."""
    scratch = ledger.path / "ray"  # Tune's own snapshots; nothing reads them, so they go at the end
    trainable = tune.with_resources(
        tune.with_parameters(
            PackTrainable,
            data=prepared.dataset.to_numpy(),
            analysis=Analysis.from_config(prepared.config),
            ledger=str(ledger.path),
            threads=resources.threads,
        ),
        {"cpu": resources.cpu, "gpu": resources.gpu},
    )
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            num_samples=-(-prepared.config.search.trials // resources.pack),
            max_concurrent_trials=resources.concurrent,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(scratch),
            callbacks=[_Callback(session)],
            # members are in the ledger before a trial ends: Tune has nothing to keep
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            failure_config=tune.FailureConfig(max_failures=RETRIES),
            verbose=0,
        ),
    )
    try:
        tuner.fit()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _plan_text(resources: TrialResources) -> str:
    device = f"{resources.gpu:g} GPU" if resources.gpu else f"{resources.cpu:g} CPU"
    packs = f" in packs of {resources.pack}" if resources.pack > 1 else ""
    return f"{resources.concurrent} at a time{packs}, {device} each"
