"""Ray Tune's side of the search: a trial is a pack of members."""

from collections.abc import Callable
from typing import Any

from ray.tune.search import Searcher

from sweeps.config import MemberConfig
from sweeps.records import MemberRecord
from sweeps.search.driver_only import DriverOnly
from sweeps.search.study import Study


class PackSearcher(DriverOnly, Searcher):
    """Proposes packs: {"members": [{"number": ..., "config": {...}}, ...]}.

    A member is owned by the trial that it was proposed to until that trial completes or fails; then each of
    its members is told to the study, exactly once, from the record that the trial filed.

    Args:
        study: where members are asked and told.
        trials: how many members to propose in all.
        pack: members a trial.
        read: returns the record that was filed under a key, or None.
    """

    def __init__(
        self, study: Study, trials: int, pack: int, read: Callable[[str], MemberRecord | None], data_hash: str
    ) -> None:
        super().__init__(metric=None, mode=None)
        self._study, self._left, self._pack, self._read = study, trials, pack, read
        self._data_hash = data_hash
        self._running: dict[str, list[tuple[int, MemberConfig]]] = {}

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict[str, Any], **_: Any
    ) -> bool:
        """Accept only what the constructor set: the objectives are the study's."""
        return metric is None and mode is None and not config

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Propose a pack, or `Searcher.FINISHED`."""
        if self._left <= 0:
            finished: str = Searcher.FINISHED
            return finished
        members = [self._study.ask() for _ in range(min(self._pack, self._left))]
        self._left -= len(members)
        self._running[trial_id] = members
        return {"members": [{"number": number, "config": member.to_dict()} for number, member in members]}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell the study what became of each member of a pack."""
        for number, member in self._running.pop(trial_id, []):
            record = self._read(member.key(self._data_hash))
            if record is None:
                self._study.fail(number)
            else:
                self._study.tell(record, number)

    def save(self, checkpoint_path: str) -> None:
        """Keep nothing: the study is durable, and sweeps resume from the ledger."""

    def restore(self, checkpoint_path: str) -> None:
        """Refuse: sweeps resume from the ledger."""
        raise RuntimeError("a sweep is resumed from its ledger, not from a Tune snapshot")
