"""Ray Tune's side of the search: a trial is a pack of members."""

from collections.abc import Callable, Sequence
from typing import Any

from ray.tune.search import Searcher

from sweeps.config import MemberConfig
from sweeps.ledger.records import FAILED, MemberRecord
from sweeps.search.driver_only import DriverOnly
from sweeps.search.study import Study


class PackSearcher(DriverOnly, Searcher):
    """Proposes packs: {"members": [{"number": ..., "key": ..., "config": {...}}, ...]}.

    A member belongs to the trial that it was proposed to until that trial completes or is given up; then each
    of its members is told to the study, exactly once, from the record that the trial filed. Until then the
    study has it as running, which is how a resumed sweep finds it again.

    The death of a pack's process may be the fault of one of its members, and which one cannot be seen from
    outside. So where a pack of several is given up, its members without a record are proposed again, one per
    pack.

    Args:
        study: study that members are asked from and told to.
        new: number of members to ask for.
        pack: largest number of members per trial.
        read: function that returns the record that was filed under a key, or None.
        write: function that files the record of a member whose trial left none.
        left: members that were asked for earlier; they are proposed first.
        room: function that returns the number of members like a given one that a trial should have. A trial
            then gets members of one kind only, and the study is asked for as many at once as may join. None
            takes members as they come.

    Attributes:
        broken: error that keeps it from continuing. Tune would swallow it or wrap it in text, so it is kept
            here for the caller, and nothing more is proposed or told.
    """

    def __init__(
        self,
        study: Study,
        new: int,
        pack: int,
        read: Callable[[str], MemberRecord | None],
        write: Callable[[MemberRecord], None],
        left: Sequence[tuple[int, MemberConfig]] = (),
        room: Callable[[MemberConfig], int] | None = None,
    ) -> None:
        super().__init__(metric=None, mode=None)
        self._study, self._new, self._pack = study, new, pack
        self._read, self._write = read, write
        self._left = list(left)
        self._room = room
        self._alone: list[tuple[int, MemberConfig]] = []
        self.broken: Exception | None = None
        self._running: dict[str, list[tuple[int, MemberConfig]]] = {}

    @property
    def members(self) -> int:
        """Number of members that are still to be proposed."""
        return len(self._alone) + len(self._left) + self._new

    @property
    def most_trials(self) -> int:
        """Largest number of trials that these members may take: packs, then each member by itself."""
        packs = self.members if self._room else -(-self.members // self._pack)
        return packs + (self.members if self._pack > 1 else 0)

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict[str, Any], **_: Any
    ) -> bool:
        """Accept only what the constructor set: the objectives are the study's."""
        return metric is None and mode is None and not config

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Propose a pack, or `Searcher.FINISHED`; None where the study fails, or to be asked again."""
        if self.members <= 0:
            if any(len(members) > 1 for members in self._running.values()):
                return None  # one may have to be divided, and a finished searcher is not asked again
            finished: str = Searcher.FINISHED
            return finished
        if self.broken is not None:
            return None
        try:
            members = self._next_pack()
        except Exception as error:
            self.broken = error
            return None
        self._running[trial_id] = members
        return {
            "members": [
                {"number": number, "key": self._study.key(member), "config": member.to_dict()}
                for number, member in members
            ]
        }

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell the study the results of a pack's members; after an error, they wait for `give_up`."""
        if not error:
            self.give_up(trial_id, "its trial ended without a record")

    def give_up(self, trial_id: str, cause: str) -> list[str]:
        """End a trial: its members' records are told to the study.

        A member without a record is filed as failed; one of a pack of several is proposed again.

        Args:
            trial_id: id of the trial.
            cause: reason why there may be no record.

        Returns:
            The keys of the members that have ended.
        """
        members = self._running.pop(trial_id, [])
        ended: list[str] = []
        if self.broken is not None:
            return ended
        try:
            for number, member in members:
                if len(members) > 1 and self._read(self._study.key(member)) is None:
                    self._alone.append((number, member))
                else:
                    self._end(number, member, cause)
                    ended.append(self._study.key(member))
        except Exception as error:
            self.broken = error
        return ended

    def _next_pack(self) -> list[tuple[int, MemberConfig]]:
        if self._alone:
            return [self._alone.pop(0)]
        if self._room is not None:
            return self._alike(self._room)
        self._ask(self._pack)
        members, self._left = self._left[: self._pack], self._left[self._pack :]
        return members

    def _alike(self, room: Callable[[MemberConfig], int]) -> list[tuple[int, MemberConfig]]:
        """Take the first member that is left, and others of its kind; those of other kinds stay left."""
        self._ask(1)
        first = self._left.pop(0)
        wanted = min(room(first[1]), self._pack)
        if wanted > 1:
            # ask no further ahead than this: later members may learn from the results
            self._ask(wanted)
        members = [first]
        for member in list(self._left):
            if member[1].kind == first[1].kind and min(wanted, room(member[1])) > len(members):
                wanted = min(wanted, room(member[1]))
                members.append(member)
                self._left.remove(member)
        return members

    def _ask(self, count: int) -> None:
        """Ask the study until this many members are left to be proposed, or there are no more."""
        for _ in range(min(count - len(self._left), self._new)):
            self._left.append(self._study.ask())
            self._new -= 1

    def _end(self, number: int, member: MemberConfig, cause: str) -> None:
        key = self._study.key(member)
        record = self._read(key)
        if record is None:
            record = MemberRecord(key=key, number=number, status=FAILED, cause=cause, config=member)
            self._write(record)
        self._study.tell(record, number)

    def save(self, checkpoint_path: str) -> None:
        """Keep nothing: the study is durable, and sweeps resume from the ledger."""

    def restore(self, checkpoint_path: str) -> None:
        """Refuse: sweeps resume from the ledger."""
        raise RuntimeError("a sweep is resumed from its ledger, not from a Tune snapshot")
