"""Journals of Optuna: the one that optuna-dashboard reads, and the study of a sweep of release 0.1.0."""

import contextlib
import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from sweeps.ledger.storage import Folder

_LOCK_SUFFIX = ".lock"


class Journal:
    """A sweep's study as optuna-dashboard reads it: rewritten when a driver starts, then appended to.

    It is only for viewing. Nothing here reads it, and where it cannot be written the sweep continues.

    Args:
        path: path of the file; an existing one is replaced.
        name: name of the study, the sweep's id.
        objectives: names of a trial's values.
        directions: directions of the objectives.
        trials: trials that exist already.
        note: function that receives one line if the journal cannot be written.
    """

    def __init__(
        self,
        path: Path,
        name: str,
        objectives: Sequence[str],
        directions: Sequence[StudyDirection],
        trials: Sequence[FrozenTrial],
        note: Callable[[str], None],
    ) -> None:
        self._path, self._note = path, note
        self._study: optuna.Study | None = None
        with self._tolerated():
            logs = _Logs()
            study = optuna.create_study(
                storage=JournalStorage(logs), study_name=name, directions=list(directions)
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                study.set_metric_names(list(objectives))
            study.add_trials(trials)
            # left by a process that was killed while it wrote; Optuna would wait 30 s for it
            Path(f"{path}{_LOCK_SUFFIX}").unlink(missing_ok=True)
            lines = "".join(f"{json.dumps(log, separators=(',', ':'))}\n" for log in logs.logs)
            Folder(path.parent).write(path.name, lines.encode())
            storage = JournalStorage(JournalFileBackend(str(path)))
            self._study = optuna.load_study(study_name=name, storage=storage)

    def asked(self, trial: FrozenTrial) -> None:
        """Append a running trial."""
        with self._tolerated():
            if self._study is not None:
                self._study.add_trial(trial)

    def told(self, number: int, state: TrialState, values: Sequence[float] | None) -> None:
        """Append how a trial ended."""
        with self._tolerated():
            if self._study is not None:
                self._study.tell(number, values, state)

    @contextlib.contextmanager
    def _tolerated(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # whatever Optuna makes of a full disk or of somebody else's lines
            self._study = None
            self._note(f"{self._path}, which is for optuna-dashboard only, cannot be written: {error}")


def read_trials(content: bytes, name: str) -> tuple[list[FrozenTrial], dict[str, Any], int]:
    """Read the study of a journal, as far as its lines are whole.

    A killed driver leaves a last line that is cut off. What follows a bad line makes no sense without it,
    since trials get their numbers from the order of the lines.

    Args:
        content: content of the journal.
        name: name of the study.

    Returns:
        Its trials, the samplers' notes in the study, and the number of lines that were not read.

    Raises:
        ValueError: its lines do not make sense.
    """
    lines = content.splitlines(keepends=True)
    logs = []
    for line in lines:
        try:
            log = json.loads(line)
        except (ValueError, RecursionError):  # the second where it is nested too deeply
            break
        if not line.endswith(b"\n"):
            break
        logs.append(log)
    lost = len(lines) - len(logs)
    if not logs:
        return [], {}, lost
    try:
        storage: BaseStorage = JournalStorage(_Logs(logs))
        study = storage.get_study_id_from_name(name)
        return storage.get_all_trials(study), storage.get_study_system_attrs(study), lost
    except Exception as error:  # Optuna replays the lines unchecked: whatever their content leads to
        raise ValueError(f"it does not hold the study of sweep {name}: {error!r}") from error


class _Logs(BaseJournalBackend):
    """A journal in memory."""

    def __init__(self, logs: Sequence[dict[str, Any]] = ()) -> None:
        self.logs = list(logs)

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        return self.logs[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self.logs += logs
