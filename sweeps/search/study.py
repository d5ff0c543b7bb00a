"""The Optuna study of a sweep: members are asked, told, and extra points of theirs are added."""

import dataclasses
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path

import optuna
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState, create_trial

from arsvd import OperatingPoint, non_dominated
from sweeps.config import MemberConfig, Space, SweepConfig, member_seed
from sweeps.records import FINISHED, MemberRecord
from sweeps.search.samplers import make_sampler

MAXIMISED = ("accuracy", "macro_f1")
KEY, INJECTED = "arsvd.key", "arsvd.injected_from"

logging.getLogger("optuna").setLevel(logging.WARNING)


class Study:
    """A sweep's study in durable storage.

    Trials that were asked are members; trials that were added carry the attribute `arsvd.injected_from`
    and hold further points of a member that is told already, so that the sampler learns a whole curve from
    one training. They do not count as members.

    Args:
        storage: where the study is kept.
        name: the study's name, the sweep's id.
        config: the sweep's configuration.
        data_hash: the data set's content hash, for the members' keys.
    """

    def __init__(self, storage: BaseStorage, name: str, config: SweepConfig, data_hash: str) -> None:
        self._config, self._data_hash = config, data_hash
        self._space = Space.from_config(config)
        self._objectives = config.search.objectives
        search = config.search
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._study = optuna.create_study(
                storage=storage,
                study_name=name,
                sampler=make_sampler(search.sampler, search.seed, search.trials),
                directions=["maximize" if o in MAXIMISED else "minimize" for o in self._objectives],
                load_if_exists=True,
            )

    @classmethod
    def in_journal(cls, path: Path, name: str, config: SweepConfig, data_hash: str) -> "Study":
        """Open or begin the study in a journal file."""
        return cls(JournalStorage(JournalFileBackend(str(path))), name, config, data_hash)

    def ask(self) -> tuple[int, MemberConfig]:
        """Draw a member.

        Returns:
            Its trial number and its configuration, whose key is stored with the trial.
        """
        trial = self._study.ask(self._space.distributions)
        member = self._space.resolve(trial.params, member_seed(self._config.search.seed, trial.number))
        trial.set_user_attr(KEY, member.key(self._data_hash))
        return trial.number, member

    def tell(self, record: MemberRecord, number: int | None = None) -> None:
        """Tell how a member did, and add up to `search.inject` further points of it.

        Args:
            record: the member.
            number: the trial that asked for it, the record's own when None. Where all members share one
                seed, a sampler may ask for a member again: it is not trained again, and its further points
                are added once.
        """
        number = record.number if number is None else number
        if record.status != FINISHED or record.asked is None:
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
                    dataclasses.replace(
                        record.config, energy=point.threshold, basis=point.basis, rule=point.family
                    )
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

    def fail(self, number: int) -> None:
        """Tell that a member never came back."""
        self._study.tell(number, state=TrialState.FAIL, skip_if_finished=True)

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
