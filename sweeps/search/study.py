"""The Optuna study of a sweep, made from its ledger: it is asked for members, and told their results."""

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import optuna
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from arsvd import OperatingPoint
from sweeps.config import MemberConfig, Space, SweepConfig, member_seed
from sweeps.config.on_record import RECORD_VERSION
from sweeps.ledger.asked import Asked
from sweeps.ledger.records import FINISHED, MemberRecord
from sweeps.objectives import OBJECTIVES
from sweeps.samplers import SAMPLERS
from sweeps.samplers.base import resumed_seed
from sweeps.search.journal import Journal

KEY, REFERENCE = "arsvd.key", "arsvd.reference"
INSIDE, OUTSIDE = "inside", "outside"  # of the space, where the reference may lie
_INJECTED = "arsvd.injected_from"  # release 0.1.0: further points of a member, which are no members

logging.getLogger("optuna").setLevel(logging.WARNING)


class StudyError(ValueError):
    """The study does not belong to the members on file, or cannot be read."""


@dataclass(frozen=True)
class Standing:
    """How far a study is.

    Attributes:
        asked: number of members that were asked for, including those that have ended.
        left: members that were asked for and are not on file, to be trained.
    """

    asked: int
    left: list[tuple[int, MemberConfig]]


class Study:
    """A sweep's study, in memory.

    Only the ledger is durable: a member is kept there before `ask` returns it, and has ended once its record
    is on file. Trials have the numbers under which they were asked, from which seeds are derived; a number
    that belongs to no member is filled by a failed trial, from which nothing is learnt.

    The first member is the reference, which no sampler draws: its trial has parameters where the space
    contains it, and carries the attribute `arsvd.reference`.

    Args:
        config: configuration of the sweep.
        data_hash: content hash of the data set, for the members' keys.
        version: version of records when the sweep began, for the members' keys.
        asked: members that were asked for already.
        records: members on file. One that is missing in `asked` is taken from its record.
        keep: function that files a member that is asked for; None in a study that will not continue.

    Attributes:
        standing: state of the study when it was made.

    Raises:
        StudyError: a member on file belongs to another sweep.
    """

    def __init__(
        self,
        config: SweepConfig,
        data_hash: str,
        version: int = RECORD_VERSION,
        asked: Sequence[Asked] = (),
        records: Sequence[MemberRecord] = (),
        keep: Callable[[Asked], None] | None = None,
    ) -> None:
        self._config, self._data_hash, self._version = config, data_hash, version
        self._keep = keep
        self._journal: Journal | None = None
        self._space = Space.from_config(config)
        self._objectives = config.search.objectives
        self._storage = InMemoryStorage()
        search = config.search
        self._study = optuna.create_study(
            storage=self._storage,
            study_name="sweep",
            directions=[OBJECTIVES[name].direction for name in self._objectives],
        )
        self._id = self._storage.get_study_id_from_name("sweep")
        self.standing = self._rebuild(asked, records)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = SAMPLERS[search.sampler]
            seed = resumed_seed(sampler, search.seed, len(self._trials()))
            self._study.sampler = sampler.make(seed, search.trials)

    def show_in(self, make: Callable[..., Journal]) -> None:
        """Keep a journal of the study for optuna-dashboard from now on.

        Args:
            make: function that opens the journal, given objectives, directions and trials.
        """
        self._journal = make(
            objectives=self._objectives, directions=self._study.directions, trials=self._trials()
        )

    def key(self, member: MemberConfig) -> str:
        """Return the key under which a member's record is filed in this sweep."""
        return member.key(self._data_hash, self._version)

    def ask(self) -> tuple[int, MemberConfig]:
        """Draw a member; the first one of a study is the reference.

        Returns:
            Its trial number and its configuration, which are on file.

        Raises:
            StorageError: the member cannot be filed.
        """
        member = self._ask() if self._trials() else self._ask_reference()
        if self._keep is not None:
            self._keep(member)
        if self._journal is not None:
            self._journal.asked(self._trials()[member.number])
        return member.number, member.config

    def _ask_reference(self) -> Asked:
        config = self._reference(0)
        member = Asked(0, self.key(config), config)
        self._study.add_trial(self._trial(member, None))
        return member

    def _ask(self) -> Asked:
        before = self._storage.get_study_system_attrs(self._id)
        trial = self._study.ask(self._space.distributions)
        config = self._space.resolve(trial.params, member_seed(self._config.search.seed, trial.number))
        key = self.key(config)
        trial.set_user_attr(KEY, key)
        after = self._storage.get_study_system_attrs(self._id)
        changed = {name: value for name, value in after.items() if before.get(name) != value}
        return Asked(trial.number, key, config, dict(self._trials()[trial.number].system_attrs), changed)

    def tell(self, record: MemberRecord, number: int | None = None) -> None:
        """Tell the study the results of a member.

        Args:
            record: record of the member.
            number: number of the trial that asked for it; None for the record's own. Where all members share
                one seed, a sampler may ask for a member again: it is not trained again.
        """
        number = record.number if number is None else number
        trial = self._trials()[number]
        if trial.state.is_finished():
            return
        state, values = self._outcome(record, trial.user_attrs.get(REFERENCE) == OUTSIDE)
        self._study.tell(number, values, state)
        if self._journal is not None:
            self._journal.told(number, state, values)

    def recognised(self, trials: Sequence[FrozenTrial], notes: Mapping[str, Any]) -> list[Asked]:
        """Tell which trials of the study that release 0.1.0 kept are members.

        Args:
            trials: all trials of that study.
            notes: attributes that samplers keep with that study.

        Raises:
            StudyError: a trial does not belong to this sweep.
        """
        found = []
        for trial in trials:
            key = trial.user_attrs.get(KEY)
            # without a key the driver was killed before it could propose the member
            if key is None or _INJECTED in trial.user_attrs:
                continue
            number = trial.number
            try:
                if REFERENCE in trial.user_attrs:
                    config = self._reference(number)
                else:
                    seed = member_seed(self._config.search.seed, number)
                    config = self._space.resolve(trial.params, seed)
            except ValueError as error:
                raise StudyError(f"trial {number} of the study is not of this sweep: {error}") from error
            if self.key(config) != key:
                raise StudyError(
                    f"trial {number} of the study was asked as member {key}, "
                    f"and its parameters are those of {self.key(config)}"
                )
            found.append(Asked(number, key, config, trial.system_attrs))
        return [*found[:-1], *(replace(member, study_notes=dict(notes)) for member in found[-1:])]

    def _rebuild(self, asked: Sequence[Asked], records: Sequence[MemberRecord]) -> Standing:
        filed = {record.key: record for record in records}
        members = {record.number: Asked(record.number, record.key, record.config) for record in records}
        members |= {member.number: member for member in asked}
        left = []
        for number in range(max(members, default=-1) + 1):
            member = members.get(number)
            if member is None:
                self._study.add_trial(create_trial(state=TrialState.FAIL))
                continue
            record = filed.get(member.key)
            self._study.add_trial(self._trial(member, record))
            for name, value in member.study_notes.items():
                self._storage.set_study_system_attr(self._id, name, value)
            if record is None:
                left.append((number, member.config))
        return Standing(len(members), left)

    def _trial(self, member: Asked, record: MemberRecord | None) -> FrozenTrial:
        """Make a member's trial; a reference outside the space has no parameters, and teaches nothing."""
        attributes = {KEY: member.key}
        if member.number == 0 and member.config == self._reference(0):
            attributes[REFERENCE] = INSIDE
        try:
            params, distributions = self._space.encode(member.config), self._space.distributions
        except ValueError as error:
            if REFERENCE not in attributes:
                raise StudyError(f"member {member.number} on file is not of this sweep: {error}") from error
            attributes[REFERENCE] = OUTSIDE
            params, distributions = {}, {}
        state, values = self._outcome(record, attributes.get(REFERENCE) == OUTSIDE)
        return create_trial(
            state=state,
            params=params,
            distributions=distributions,
            values=values,
            user_attrs=attributes,
            system_attrs=member.notes,
        )

    def _outcome(self, record: MemberRecord | None, outside: bool) -> tuple[TrialState, list[float] | None]:
        """Return the state and the values of a member's trial."""
        if record is None:
            return TrialState.RUNNING, None
        if record.status != FINISHED or record.asked is None or outside:
            return TrialState.FAIL, None
        return TrialState.COMPLETE, self._values(record.asked)

    def _reference(self, number: int) -> MemberConfig:
        seed = member_seed(self._config.search.seed, number)
        return self._space.reference(self._config.model.reference, seed)

    def _trials(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def _values(self, point: OperatingPoint) -> list[float]:
        return [float(OBJECTIVES[name].of(point)) for name in self._objectives]
