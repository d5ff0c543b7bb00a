"""The Optuna study of a sweep: members are asked, told, and extra points of theirs are added."""

import contextlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.exc import SQLAlchemyError

from arsvd import OperatingPoint, non_dominated
from sweeps.config import MemberConfig, Space, SweepConfig, member_seed
from sweeps.config.on_record import RECORD_VERSION
from sweeps.records import FINISHED, MemberRecord
from sweeps.search.samplers import make_sampler, resumed_seed
from sweeps.storage import StorageError
from sweeps.tracking.failures import one_line, redact

MAXIMISED = ("accuracy", "macro_f1")
KEY, INJECTED, REFERENCE = "arsvd.key", "arsvd.injected_from", "arsvd.reference"
INSIDE, OUTSIDE = "inside", "outside"  # of the space, what the reference may be
# of the study: keys of members that lost their files and were trained again, whose first values stand
RETRAINED = "arsvd.retrained"

logging.getLogger("optuna").setLevel(logging.WARNING)


class StudyError(ValueError):
    """The study is not the one of the members on file, or cannot be read."""


@dataclass(frozen=True)
class Standing:
    """How far a study is.

    Attributes:
        asked: members that were asked for, ended ones among them.
        left: members that were asked for and are not on file, to be trained.
    """

    asked: int
    left: list[tuple[int, MemberConfig]]


class Study:
    """A sweep's study in durable storage.

    Trials that were asked are members; trials that were added carry the attribute `arsvd.injected_from`
    and hold further points of a member that is told already, so that the sampler learns a whole curve from
    one training. They do not count as members. A trial becomes a member when its key is stored, as the
    attribute `arsvd.key`: one that a killed driver left without is closed as failed, and does not count.

    The first member is the reference, which no sampler draws: its trial carries the attribute
    `arsvd.reference`, and has parameters where the space holds it.

    Args:
        storage: where the study is kept.
        name: the study's name, the sweep's id.
        config: the sweep's configuration.
        data_hash: the data set's content hash, for the members' keys.
        version: of records when the sweep began, for the members' keys.
        where: what a person calls the storage; no credentials.
        lossy: whether the storage is a file that may have been damaged, so that what it says is checked
            against the members on file.
    """

    def __init__(
        self,
        storage: BaseStorage,
        name: str,
        config: SweepConfig,
        data_hash: str,
        version: int = RECORD_VERSION,
        where: str = "the study",
        lossy: bool = False,
    ) -> None:
        self._config, self._data_hash, self._version = config, data_hash, version
        self._where, self._lossy = where, lossy
        self._space = Space.from_config(config)
        self._objectives = config.search.objectives
        search = config.search
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._study = optuna.create_study(
                storage=storage,
                study_name=name,
                directions=["maximize" if o in MAXIMISED else "minimize" for o in self._objectives],
                load_if_exists=True,
            )
            self._study.sampler = make_sampler(
                search.sampler, resumed_seed(search.sampler, search.seed, len(self._trials())), search.trials
            )

    @classmethod
    def in_journal(
        cls, path: Path, name: str, config: SweepConfig, data_hash: str, version: int = RECORD_VERSION
    ) -> "Study":
        """Open or begin the study in a journal file.

        Raises:
            StudyError: the file does not hold a study.
        """
        try:
            storage = JournalStorage(JournalFileBackend(str(path)))
            return cls(storage, name, config, data_hash, version, str(path), lossy=True)
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror}") from error
        except Exception as error:  # Optuna replays the lines unchecked: whatever their content leads to
            raise StudyError(f"{path} does not hold the study of sweep {name}: {error!r}") from error

    @classmethod
    def in_database(
        cls, url: str, name: str, config: SweepConfig, data_hash: str, version: int = RECORD_VERSION
    ) -> "Study":
        """Open or begin the study in a database.

        Args:
            url: such as postgresql://user:password@host/database; it is repeated nowhere.
            name: the study's name, the sweep's id.
            config: the sweep's configuration.
            data_hash: the data set's content hash.
            version: of records when the sweep began.

        Raises:
            StudyError: the database cannot be opened.
        """
        try:
            # the connection is tested before each use: a database that was restarted is met with a new one
            storage = RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
            return cls(storage, name, config, data_hash, version, f"the database {redact(url)}")
        except (SQLAlchemyError, ImportError, optuna.exceptions.StorageInternalError) as error:
            raise StudyError(f"the study's database {redact(url)}: {_reason(error)}") from None

    def key(self, member: MemberConfig) -> str:
        """Return what a member's record is filed under in this sweep."""
        return member.key(self._data_hash, self._version)

    def ask(self) -> tuple[int, MemberConfig]:
        """Draw a member; the first one of a study is the reference.

        Returns:
            Its trial number and its configuration, whose key is stored with the trial.
        """
        with self._stored():
            if not self._trials():
                return self._ask_reference()
            trial = self._study.ask(self._space.distributions)
            member = self._space.resolve(trial.params, member_seed(self._config.search.seed, trial.number))
            trial.set_user_attr(KEY, self.key(member))
        return trial.number, member

    def _ask_reference(self) -> tuple[int, MemberConfig]:
        member = self._reference(0)
        self._study.add_trial(self._reference_trial(member, TrialState.RUNNING))
        return 0, member

    def _reference(self, number: int) -> MemberConfig:
        seed = member_seed(self._config.search.seed, number)
        return self._space.reference(self._config.model.reference, seed)

    def _reference_trial(
        self, member: MemberConfig, state: TrialState, values: list[float] | None = None
    ) -> FrozenTrial:
        """Make the reference's trial; outside the space it has no parameters, and teaches nothing."""
        attributes = {KEY: self.key(member), REFERENCE: INSIDE}
        try:
            params = self._space.encode(member)
        except ValueError:
            attributes[REFERENCE] = OUTSIDE
            state = TrialState.FAIL if state.is_finished() else state
            return create_trial(state=state, user_attrs=attributes)
        return create_trial(
            state=state,
            params=params,
            distributions=self._space.distributions,
            values=values,
            user_attrs=attributes,
        )

    def catch_up(self, records: Sequence[MemberRecord]) -> Standing:
        """Bring the study level with the members on file, after a driver or a part of the study was lost.

        Members that are on file and whose trial still runs are told. Trials that the study lost are added
        again from the records, under their numbers.

        Args:
            records: the members on file.

        Returns:
            What is left to train.

        Raises:
            StudyError: the study says other things than the records; it is damaged, or another sweep's.
            StorageError: the study's file cannot be written.
        """
        with self._stored():
            return self._catch_up(records)

    def _catch_up(self, records: Sequence[MemberRecord]) -> Standing:
        self._restore_lost(records)
        filed = {record.key: record for record in records}
        again = set(self._study.user_attrs.get(RETRAINED, ()))
        asked, left = 0, []
        for trial in self._trials():
            key = trial.user_attrs.get(KEY)
            if INJECTED in trial.user_attrs:
                continue
            if key is None:
                if not trial.state.is_finished():
                    self._study.tell(trial.number, state=TrialState.FAIL)
                continue
            if trial.state == TrialState.WAITING:
                raise StudyError(
                    f"trial {trial.number} of the study waits to be asked, which no sweep leaves"
                )
            asked += 1
            member = self._member(trial)
            record = filed.get(key)
            if record is None:
                left.append((trial.number, member))
                if trial.state.is_finished():
                    again.add(key)
            elif not trial.state.is_finished():
                self.tell(record, trial.number)
            elif record.number == trial.number and key not in again:
                self._check_values(trial, record)
        if again:
            self._study.set_user_attr(RETRAINED, sorted(again))
        return Standing(asked, left)

    def tell(self, record: MemberRecord, number: int | None = None) -> None:
        """Tell how a member did, and add up to `search.inject` further points of it.

        Args:
            record: the member.
            number: the trial that asked for it, the record's own when None. Where all members share one
                seed, a sampler may ask for a member again: it is not trained again, and its further points
                are added once.

        Raises:
            StorageError: the study's file cannot be written.
            StudyError: the study's database cannot be reached.
        """
        with self._stored():
            self._tell(record, number)

    def _tell(self, record: MemberRecord, number: int | None) -> None:
        number = record.number if number is None else number
        # a member that lost its files is trained again; what the study knows of it stands
        trial = self._trials()[number]
        if trial.state.is_finished():
            return
        outside = trial.user_attrs.get(REFERENCE) == OUTSIDE
        if record.status != FINISHED or record.asked is None or outside:
            self._study.tell(number, state=TrialState.FAIL)
            return
        self._study.tell(number, self._values(record.asked))
        if number != record.number:
            return
        for point in self._further(record, record.asked):
            if point.threshold is None or point.basis is None:
                continue
            try:
                params = self._space.encode(
                    record.config.replaced(energy=point.threshold, basis=point.basis, rule=point.family)
                )
            except ValueError:
                continue  # outside the searched range: nothing that the sampler could propose
            self._study.add_trial(
                create_trial(
                    params=params,
                    distributions=self._space.distributions,
                    values=self._values(point),
                    user_attrs={INJECTED: record.number, KEY: record.key},
                )
            )

    @contextlib.contextmanager
    def _stored(self) -> Iterator[None]:
        """Name the storage in whatever the system says about it."""
        try:
            yield
        except OSError as error:
            raise StorageError(f"cannot write {self._where}: {error.strerror or error}") from error
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            raise StudyError(f"{self._where}: {_reason(error)}") from None

    def _trials(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def _member(self, trial: FrozenTrial) -> MemberConfig:
        """Make a trial's member again, as it was asked."""
        key = trial.user_attrs[KEY]
        try:
            if REFERENCE in trial.user_attrs:
                member = self._reference(trial.number)
            else:
                seed = member_seed(self._config.search.seed, trial.number)
                member = self._space.resolve(trial.params, seed)
        except ValueError as error:
            raise StudyError(f"trial {trial.number} of the study is not of this sweep: {error}") from error
        if self.key(member) != key:
            raise StudyError(
                f"trial {trial.number} of the study was asked as member {key}, "
                f"and its parameters are those of {self.key(member)}"
            )
        return member

    def _check_values(self, trial: FrozenTrial, record: MemberRecord) -> None:
        if not self._lossy or trial.state != TrialState.COMPLETE or record.asked is None:
            return
        told = self._values(record.asked)
        if trial.values != told:
            raise StudyError(
                f"trial {trial.number} of the study has the values {trial.values}, its record {told}"
            )

    def _restore_lost(self, records: Sequence[MemberRecord]) -> None:
        lost = {record.number: record for record in records}
        for number in range(len(self._trials()), max(lost, default=-1) + 1):
            record = lost.get(number)
            if record is None:
                # a member that was in training, or a further point: it keeps the numbers in step
                self._study.add_trial(create_trial(state=TrialState.FAIL))
                continue
            values = None
            if record.status == FINISHED and record.asked is not None:
                values = self._values(record.asked)
            state = TrialState.FAIL if values is None else TrialState.COMPLETE
            if number == 0 and record.config == self._reference(0):
                self._study.add_trial(self._reference_trial(record.config, state, values))
                continue
            self._study.add_trial(
                create_trial(
                    state=state,
                    params=self._encoded(record),
                    distributions=self._space.distributions,
                    values=values,
                    user_attrs={KEY: record.key},
                )
            )

    def _encoded(self, record: MemberRecord) -> dict[str, Any]:
        try:
            return self._space.encode(record.config)
        except ValueError as error:
            raise StudyError(f"member {record.number} on file is not of this sweep: {error}") from error

    def _values(self, point: OperatingPoint) -> list[float]:
        return [float(getattr(point, objective)) for objective in self._objectives]

    def _further(self, record: MemberRecord, asked: OperatingPoint) -> Sequence[OperatingPoint]:
        """Choose the member's other non-dominated threshold points, spread evenly over their order."""
        candidates = [p for p in record.points if p.family in self._space.rules() and p.threshold is not None]
        candidates = [p for p in candidates if (p.basis, p.ranks) != (asked.basis, asked.ranks)]
        signs = [-1 if objective in MAXIMISED else 1 for objective in self._objectives]
        rows = [[s * v for s, v in zip(signs, self._values(p), strict=True)] for p in (asked, *candidates)]
        kept = [p for p, keep in zip((asked, *candidates), non_dominated(rows), strict=True) if keep]
        kept = [point for point in kept if point is not asked]
        limit = self._config.search.inject
        if len(kept) <= limit:
            return kept
        return [kept[round(i * (len(kept) - 1) / max(1, limit - 1))] for i in range(limit)]


def _reason(error: Exception) -> str:
    """Return what a database said; Optuna puts a guess of its own before it."""
    cause = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else None
    return one_line(str(cause or error).split("(Background on this error", 1)[0])
