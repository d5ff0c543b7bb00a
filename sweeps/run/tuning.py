"""Ray Tune runs the packs of a sweep: its settings, and the handling of trials that fail."""

import os
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray import tune

from arsvd.data import Dataset
from sweeps.config import SweepConfig
from sweeps.ledger.ledger import Ledger
from sweeps.ledger.storage import StorageError
from sweeps.run.interruption import Interruption
from sweeps.run.resources import TrialResources
from sweeps.run.session import Session
from sweeps.search import PackSearcher
from sweeps.search.driver_only import DriverOnly
from sweeps.tracking.exporting import Exporters
from sweeps.trial.epochs import EpochReports
from sweeps.trial.trainable import PackTrainable
from sweeps.trial.workbench import Analysis

RETRIES = 2  # of a trial whose process died; a member that raises is recorded as failed and not retried
_SCRATCH = "ray"  # Tune's own snapshots; nothing reads them, so they go at the end
_CAUSE_CHARACTERS = 2000
_KILL_SECONDS = 5.0
_LOOK_SECONDS = 1.0  # between two looks at the trials' progress
_SETTINGS = {
    # otherwise Tune takes SIGINT, saves a useless snapshot, and returns as if all was well
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # tracebacks of trials that are tried again: the last one's is in the member's record
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
}


class InterruptedSweepError(RuntimeError):
    """The sweep was asked to end."""


def tune_members(
    config: SweepConfig,
    dataset: Dataset,
    ledger: Ledger,
    searcher: PackSearcher,
    session: Session,
    resources: TrialResources,
    exporters: Exporters,
    interruption: Interruption,
) -> None:
    """Train what the searcher proposes; return when it has no more.

    Args:
        config: configuration of the sweep.
        dataset: data set of the sweep; each node gets it once, from Ray's object store.
        ledger: directory of the sweep.
        searcher: searcher that proposes packs.
        session: session that takes in packs that have ended.
        resources: resources of one trial.
        exporters: processes that are started when a trial ends and no other takes its place.
        interruption: state that ends the training once it is requested.

    Raises:
        InterruptedSweepError: the sweep was asked to end. Members in training are left to a resume.
        StorageError: a file of the sweep cannot be written. Members in training are left to a resume.
    """
    folder, filesystem = ledger.storage.arrow()
    trainable = tune.with_resources(
        tune.with_parameters(
            PackTrainable,
            data=dataset.to_numpy(),
            analysis=Analysis.from_config(config),
            ledger=ledger.location,
            threads=resources.threads,
            checkpoint_every=config.resources.checkpoint_every,
            gpu=resources.gpu > 0,
        ),
        {"cpu": resources.cpu, "gpu": resources.gpu},
    )
    with interruption.awaited(), _environment(_SETTINGS):
        reports = EpochReports(ledger.facts.id)
        driver = _Driver(searcher, session, interruption, exporters, reports)
        tuner = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                num_samples=searcher.most_trials,
                max_concurrent_trials=resources.concurrent,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=f"{folder}/{_SCRATCH}",
                storage_filesystem=filesystem,
                callbacks=[driver],
                # members are in the ledger before a trial ends: Tune has nothing to keep
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
                failure_config=tune.FailureConfig(max_failures=RETRIES),
                verbose=0,
            ),
        )
        try:
            tuner.fit()
            driver.check()  # errors of the last trial: Tune ends before it begins another step
        finally:
            reports.close()
            ledger.storage.remove_folder(_SCRATCH)


class _Driver(DriverOnly, tune.Callback):
    """Passes on what has ended to the session, and stops everything where the sweep cannot continue."""

    def __init__(
        self,
        searcher: PackSearcher,
        session: Session,
        interruption: Interruption,
        exporters: Exporters,
        reports: EpochReports,
    ) -> None:
        self._searcher, self._session, self._interruption = searcher, session, interruption
        self._exporters, self._reports = exporters, reports
        self._looked = -float("inf")
        self._halt: Exception | None = None

    def check(self) -> None:
        """Raise the error that keeps the sweep from continuing, if there is one."""
        halt = self._halt or self._searcher.broken
        if self._interruption.requested:
            halt = InterruptedSweepError("interrupted")
        if halt is not None:
            raise halt

    def on_step_begin(self, iteration: int, trials: list[Any], **_: Any) -> None:
        # the only place where Tune passes an error on unchanged
        try:
            self.check()
        except Exception:
            _kill(trials)
            raise
        if time.monotonic() - self._looked >= _LOOK_SECONDS:
            self._looked = time.monotonic()
            running = {
                trial.trial_id: [member["config"]["epochs"] for member in trial.config["members"]]
                for trial in trials
                if trial.status == "RUNNING"
            }
            self._session.training(running, self._reports.of(running))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any
    ) -> None:
        self._filed(result["keys"], trial)
        if self._searcher.members == 0 and self._halt is None:
            # its resources stay idle until the last trial ends
            self._exporters.begin(len(self._session.front.points))

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        cause = _last_error(trial)
        self._halt = self._halt or _storage_error(cause)  # a full disk is full for every retry
        if self._halt is None:
            self._session.note(f"a trial is tried again: {cause.splitlines()[0]}")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        cause = _last_error(trial)
        self._halt = self._halt or _storage_error(cause)
        if self._halt is None:
            self._filed(self._searcher.give_up(trial.trial_id, cause), trial)

    def _filed(self, keys: list[str], trial: Any) -> None:
        try:
            self._session.members_filed(keys, trial.trial_id)
        except Exception as error:  # raised from here it would come out as the text of a TuneError
            # the searcher must file nothing more: it would file a failure over a record that does not show
            # yet
            self._halt = self._searcher.broken = error


def _kill(trials: list[Any]) -> None:
    """End the trials' processes at once: Tune itself lets them train on for ten seconds."""
    actors = [trial.temporary_state.ray_actor for trial in trials]
    # on a thread, since Ray may be ending too: SIGTERM often goes to all processes of a service
    thread = threading.Thread(target=lambda: [ray.kill(actor) for actor in actors if actor], daemon=True)
    thread.start()
    thread.join(_KILL_SECONDS)


def _last_error(trial: Any) -> str:
    """Return Tune's text of a trial's last failure."""
    try:
        text = Path(trial.error_file).read_text(encoding="utf-8")
    except (OSError, TypeError):
        return "its process died"
    last = re.split(r"^Failure # \d+ .*$", text, flags=re.MULTILINE)[-1].strip()
    return last[-_CAUSE_CHARACTERS:] or "its process died"


def _storage_error(text: str) -> StorageError | None:
    found = re.findall(r"^(?:[\w.]+\.)?StorageError: (.+)$", text, flags=re.MULTILINE)
    return StorageError(found[-1]) if found else None


@contextmanager
def _environment(changes: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
