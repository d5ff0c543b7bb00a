"""Run a sweep, new or on file: train what is missing, then finish."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import ray
from mlflow import MlflowClient

from cluster.watch import watch_ray
from sweeps.ledger.ledger import Ledger
from sweeps.ledger.lock import hold
from sweeps.ledger.records import FAILED, Front
from sweeps.ledger.standing import standing_front
from sweeps.ledger.storage import StorageError
from sweeps.run.finish import Finished, finish
from sweeps.run.interruption import Interruption, watch_signals
from sweeps.run.mending import most_numbers, whole_members
from sweeps.run.preparing import Prepared, ResumeError
from sweeps.run.progress import Progress, Quiet, data_lines
from sweeps.run.resources import TrialResources, fit_resources, room
from sweeps.run.resuming import resume_line
from sweeps.run.session import Session
from sweeps.run.tuning import InterruptedSweepError, tune_members
from sweeps.search import PackSearcher
from sweeps.search.opening import open_study
from sweeps.tracking import SweepWriter, TrackingError, prompt_requests
from sweeps.tracking.exporting import Exporters
from sweeps.tracking.outages import tracking_errors
from sweeps.tracking.publishing import open_run
from sweeps.tracking.worker import Worker
from sweeps.tracking.writer import Status

_STOP_SECONDS = 5.0  # how long an interrupted sweep continues to write to MLflow


@dataclass(frozen=True)
class SweepOutcome:
    """The results of a sweep.

    Attributes:
        ledger: directory of the sweep.
        front: final front.
        finished: logged and registered results, and what MLflow lacks.
        members: number of members finished.
        failed: number of members failed.
    """

    ledger: Ledger
    front: Front
    finished: Finished
    members: int
    failed: int


class SweepFailedError(RuntimeError):
    """No member of a sweep could be trained, or its files cannot be written."""


class ClusterLostError(SweepFailedError):
    """Ray was lost in the middle of a sweep, which can continue with another cluster."""


class SweepStoppedError(Exception):
    """The sweep was stopped in order before its end; it can continue.

    Attributes:
        ledger: directory of the sweep.
        front: front so far.
    """

    def __init__(self, ledger: Ledger, front: Front, resume: str) -> None:
        super().__init__(f"sweep {ledger.facts.id} was interrupted; go on with: {resume}")
        self.ledger, self.front = ledger, front


def run_sweep(
    prepared: Prepared, progress: Progress | None = None, interruption: Interruption | None = None
) -> SweepOutcome:
    """Train, compress and measure every member that is not on file, then log and register the front.

    New sweeps and continued ones work the same way: a new one has nothing on file yet. Ray must be running in
    this process: `ray.init()`, or the `arsvd` command, starts it.

    Args:
        prepared: result of `prepare` or of `sweeps.run.resuming.prepare_resume`.
        progress: display for people; None to show nothing.
        interruption: result of `watch_signals`, where the caller continues to watch; signals are watched here
            when None.

    Returns:
        The sweep's directory, front and models.

    Raises:
        SweepFailedError: every member failed, or a file of the sweep cannot be written; the cause is named.
        ClusterLostError: Ray is gone.
        SweepStoppedError: Ctrl-C, SIGTERM or SIGHUP; what is on file stays, and members in training are left
            to a resume.
        LockedError: another process runs the sweep.
        ResumeError: the sweep has more members than it should have.
        ResourcesError: the cluster cannot run one trial.
        StudyError: the study is in a database, or a member on file belongs to another sweep.
    """
    if not ray.is_initialized():
        raise RuntimeError("Ray is not running in this process: call ray.init() first")
    progress = progress or Quiet()
    _fit(prepared, prepared.config.search.trials)  # refused before there is a trace of the sweep
    with contextlib.nullcontext(interruption) if interruption else watch_signals() as watched:
        ledger = prepared.ledger or Ledger.create(
            prepared.home, prepared.config, prepared.dataset, prepared.reference
        )
        resume = resume_line(ledger, prepared.address)
        try:
            with hold(ledger, prepared.force), watch_ray(watched.lose), watched.sweep(resume):
                return _run(prepared, ledger, progress, watched)
        except KeyboardInterrupt as error:  # before there was a run to close
            raise _stopped(ledger, standing_front(ledger)[0], watched, resume) from error
        except StorageError as error:
            raise SweepFailedError(
                f"{error}. The sweep was stopped; when that is mended, go on with: {resume}"
            ) from error


def _stopped(ledger: Ledger, front: Front, interruption: Interruption, resume: str) -> Exception:
    """Build the error of a sweep that was ended early."""
    if interruption.lost is None or interruption.signalled:
        return SweepStoppedError(ledger, front, resume)
    return ClusterLostError(interruption.words)


def _run(prepared: Prepared, ledger: Ledger, progress: Progress, interruption: Interruption) -> SweepOutcome:
    config, dataset = prepared.config, prepared.dataset
    records = whole_members(ledger, progress.note)
    study = open_study(ledger, config, dataset.hash, records, most_numbers(ledger), progress.note)
    standing = study.standing
    new = config.search.trials - standing.asked
    if new < 0:
        raise ResumeError(
            f"search.trials={config.search.trials} is fewer than the {standing.asked} members that sweep "
            f"{ledger.facts.id} has asked for already"
        )
    ledger.write_config(config)
    if prepared.place is not None:
        prepared.place.write(ledger)
    resources = _fit(prepared, len(standing.left) + new)
    searcher = PackSearcher(
        study,
        new,
        resources.pack,
        ledger.member,
        ledger.write_member,
        standing.left,
        partial(room, features=dataset.features, classes=len(dataset.classes)) if resources.alike else None,
    )
    for line in data_lines(dataset):
        progress.note(line)
    progress.note(f"sweep {ledger.facts.id}: {_plan_text(len(records), searcher.members, resources)}")
    with Exporters() as exporters, _sweep_run(prepared, ledger) as (writer, worker):
        session = Session(
            ledger,
            config.search.trials,
            config.select.max_drop,
            writer,
            worker,
            progress,
            resources.concurrent,
        )
        session.begin(records)

        def rescue() -> None:
            _keep_front(ledger, session)
            status: Status = "KILLED" if interruption.signalled else "FAILED"
            _end_run(prepared.client, writer, worker, _STOP_SECONDS, status)

        try:
            with interruption.ending(rescue):
                if searcher.members:
                    ledger.reopen()
                    tune_members(
                        config, dataset, ledger, searcher, session, resources, exporters, interruption
                    )
                return _finish(prepared, ledger, session, writer, worker, progress, exporters)
        except (InterruptedSweepError, KeyboardInterrupt) as error:
            _keep_front(ledger, session)
            raise _stopped(
                ledger, session.front, interruption, resume_line(ledger, prepared.address)
            ) from error


def _keep_front(ledger: Ledger, session: Session) -> None:
    if ledger.front() is None:
        ledger.write_front(session.front, final=False)


def _finish(
    prepared: Prepared,
    ledger: Ledger,
    session: Session,
    writer: SweepWriter,
    worker: Worker,
    progress: Progress,
    exporters: Exporters,
) -> SweepOutcome:
    records, front = session.records, session.front
    if not front.points:
        causes = [record.cause for record in records if record.cause]
        raise SweepFailedError(
            f"no member of sweep {ledger.facts.id} was trained"
            + (f"; the first failed with: {causes[0]}" if causes else "; its trials left no record")
        )
    finished = finish(
        ledger,
        prepared.dataset,
        front,
        records,
        prepared.client,
        writer,
        worker,
        prepared.config,
        progress,
        exporters,
    )
    failed = sum(record.status == FAILED for record in records)
    return SweepOutcome(ledger, finished.front, finished, len(records) - failed, failed)


def _fit(prepared: Prepared, members: int) -> TrialResources:
    dataset = prepared.dataset
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return fit_resources(prepared.config, nodes, dataset.features, len(dataset.classes), members)


@contextlib.contextmanager
def _sweep_run(prepared: Prepared, ledger: Ledger) -> Iterator[tuple[SweepWriter, Worker]]:
    """Open the sweep's MLflow run, and close it whatever happens."""
    writer = SweepWriter(prepared.client)
    with prompt_requests():
        open_run(writer, ledger, prepared.config)
        with Worker() as worker:
            try:
                yield writer, worker
            except BaseException as error:
                # members on file go to MLflow; models may need minutes, and somebody wants to stop
                patience = _STOP_SECONDS if isinstance(error, SweepStoppedError | ClusterLostError) else 0.0
                killed = isinstance(error, KeyboardInterrupt | SystemExit | SweepStoppedError)
                _end_run(prepared.client, writer, worker, patience, "KILLED" if killed else "FAILED")
                raise


def _end_run(
    client: MlflowClient, writer: SweepWriter, worker: Worker, patience: float, status: Status
) -> None:
    """Close the run of a sweep that ended early.

    Args:
        client: client of the MLflow server.
        writer: writer of the run.
        worker: worker that may still have something to write.
        patience: seconds that the worker has for that.
        status: status of the run.
    """
    if patience:
        worker.wait(patience, limit=patience)
    worker.cancel()
    with contextlib.suppress(TrackingError):  # why the sweep ended is the error to report
        _close(client, writer, status)


def _close(client: MlflowClient, writer: SweepWriter, status: Status) -> None:
    """Close the run of a sweep that ended early, unless the queue has closed it already as complete.

    Raises:
        TrackingError: the server is away or refuses.
    """
    with tracking_errors(client.tracking_uri):
        standing = client.get_run(writer.run_id).info.status
    if standing == "RUNNING":
        writer.finish(status)


def _plan_text(done: int, members: int, resources: TrialResources) -> str:
    filed = f"{done} members on file, " if done else ""
    if not members:
        return f"{filed}nothing to train"
    device = f"{resources.gpu:g} GPU" if resources.gpu else f"{resources.cpu:g} CPU"
    most = "up to " if resources.alike else ""
    packs = f" in packs of {most}{resources.pack}" if resources.pack > 1 else ""
    more = "more " if done else ""
    return f"{filed}{members} {more}members, {resources.concurrent} at a time{packs}, {device} each"
