"""The searcher keeps Ray Tune's contract: packs, an end, and every member told exactly once."""

import copy
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from optuna.trial import TrialState
from ray.tune.search import Searcher

from sweeps.config import MemberConfig, SweepConfig
from sweeps.ledger.asked import Asked
from sweeps.ledger.records import FAILED, MemberRecord
from sweeps.ledger.storage import StorageError
from sweeps.search import PackSearcher, Study


class Bench:
    """A searcher over a real study, with records that are filed by hand."""

    def __init__(self, config: SweepConfig, data_hash: str, pack: int) -> None:
        self.hash = data_hash
        self.filed: dict[str, MemberRecord] = {}
        self.full = False  # whether nothing can be kept
        self.study = Study(config, data_hash, keep=self.keep)
        self.searcher = self.new_searcher(config.search.trials, pack)

    def new_searcher(
        self,
        new: int,
        pack: int,
        left: Sequence[tuple[int, MemberConfig]] = (),
        room: Callable[[MemberConfig], int] | None = None,
    ) -> PackSearcher:
        return PackSearcher(self.study, new, pack, self.filed.get, self.file, left, room)

    def file(self, record: MemberRecord) -> None:
        self.filed[record.key] = record

    def keep(self, member: Asked) -> None:
        if self.full:
            raise StorageError(f"cannot write {member.number}.json")

    def states(self) -> list[TrialState]:
        return [trial.state for trial in self.study._study.trials]

    def propose(self, trial_id: str) -> list[tuple[int, MemberConfig]]:
        pack = self.searcher.suggest(trial_id)
        assert isinstance(pack, dict)
        assert set(pack) == {"members"}
        keys = [MemberConfig.from_dict(entry["config"]).key(self.hash) for entry in pack["members"]]
        assert [entry["key"] for entry in pack["members"]] == keys
        return [(entry["number"], MemberConfig.from_dict(entry["config"])) for entry in pack["members"]]


@pytest.fixture
def bench(new_config: Callable[..., SweepConfig], engine_hash: str) -> Callable[..., Bench]:
    def make(trials: int, pack: int, *overrides: str) -> Bench:
        config = new_config(f"search.trials={trials}", *overrides)
        return Bench(config, engine_hash, pack)

    return make


@pytest.mark.parametrize(
    ("trials", "pack", "sizes"),
    [(7, 3, [3, 3, 1]), (6, 3, [3, 3]), (1, 8, [1]), (5, 1, [1] * 5), (4, 100, [4])],
)
def test_packs_hold_exactly_the_members_of_the_sweep(
    bench: Callable[..., Bench],
    new_record: Callable[..., MemberRecord],
    trials: int,
    pack: int,
    sizes: list[int],
) -> None:
    made = bench(trials, pack)
    assert made.searcher.most_trials == len(sizes) + (trials if pack > 1 else 0)
    packs = [made.propose(f"t{index}") for index in range(len(sizes))]
    assert [len(members) for members in packs] == sizes
    members = [member for members in packs for member in members]
    assert len({number for number, _ in members}) == trials
    assert len({member.key(made.hash) for _, member in members}) == trials
    # Tune asks again and again until all trials have ended; a pack that runs may have to be divided yet
    later = None if max(sizes) > 1 else Searcher.FINISHED
    assert [made.searcher.suggest(f"late{i}") for i in range(3)] == [later] * 3
    assert made.states() == [TrialState.RUNNING] * trials
    for index, proposed in enumerate(packs):
        for number, member in proposed:
            made.filed[member.key(made.hash)] = new_record(number, config=member)
        made.searcher.on_trial_complete(f"t{index}")
    assert [made.searcher.suggest(f"late{i}") for i in range(3)] == [Searcher.FINISHED] * 3


def test_members_are_told_from_their_records_when_their_trial_ends(
    bench: Callable[..., Bench], new_record: Callable[..., MemberRecord]
) -> None:
    made = bench(5, 3)
    first, second = made.propose("a"), made.propose("b")
    good, failed, _ = first
    made.filed[good[1].key(made.hash)] = new_record(good[0], config=good[1])
    made.filed[failed[1].key(made.hash)] = new_record(
        failed[0], config=failed[1], status=FAILED, cause="diverged", dense=None, asked=None
    )
    made.searcher.on_trial_result("a", {"keys": []})
    assert made.states() == [TrialState.RUNNING] * 5  # a trial owns its members until it ends
    made.searcher.on_trial_complete("a", {"keys": []})
    done = [TrialState.COMPLETE, TrialState.FAIL]  # the third left no record
    assert made.states() == [*done, *[TrialState.RUNNING] * 3]
    assert made.propose("c") == [first[2]]
    made.searcher.on_trial_complete("c", {"keys": []})
    done += [TrialState.FAIL]
    assert made.states() == [*done, TrialState.RUNNING, TrialState.RUNNING]
    lost = made.filed[first[2][1].key(made.hash)]
    assert (lost.status, lost.number, lost.config) == (FAILED, *first[2])
    assert lost.cause == "its trial ended without a record"
    for number, member in second:
        made.filed[member.key(made.hash)] = new_record(number, config=member)
    # the process died after it had filed its members: what is on file counts
    made.searcher.on_trial_complete("b", error=True)
    assert made.states() == [*done, TrialState.RUNNING, TrialState.RUNNING]  # until its cause is known
    assert made.searcher.give_up("b", "killed") == [member.key(made.hash) for _, member in second]
    assert made.states() == [*done, TrialState.COMPLETE, TrialState.COMPLETE]


def test_a_trial_is_told_once_however_often_it_ends(
    bench: Callable[..., Bench], new_record: Callable[..., MemberRecord]
) -> None:
    made = bench(2, 1)
    ((number, member),) = made.propose("a")
    made.filed[member.key(made.hash)] = new_record(number, config=member)
    made.searcher.on_trial_complete("a")
    made.searcher.on_trial_complete("a")
    assert made.searcher.give_up("a", "killed") == []
    assert made.searcher.give_up("unknown", "killed") == []
    assert made.states() == [TrialState.COMPLETE]


def test_a_pack_that_is_given_up_is_divided_and_a_member_that_fails_alone_is_filed_as_failed(
    bench: Callable[..., Bench], new_record: Callable[..., MemberRecord]
) -> None:
    made = bench(3, 3)
    first, guilty, mate = made.propose("a")
    made.filed[first[1].key(made.hash)] = new_record(first[0], config=first[1])
    made.searcher.on_trial_complete("a", error=True)
    assert made.searcher.suggest("early") is None
    assert made.searcher.give_up("a", "killed by the system: out of memory") == [first[1].key(made.hash)]
    assert made.states() == [TrialState.COMPLETE, TrialState.RUNNING, TrialState.RUNNING]
    assert made.propose("b") == [guilty]
    assert made.propose("c") == [mate]
    assert made.searcher.suggest("late") == Searcher.FINISHED
    made.searcher.on_trial_complete("b", error=True)
    assert made.searcher.give_up("b", "killed by the system: out of memory") == [guilty[1].key(made.hash)]
    made.filed[mate[1].key(made.hash)] = new_record(mate[0], config=mate[1])
    made.searcher.on_trial_complete("c")
    assert made.states() == [TrialState.COMPLETE, TrialState.FAIL, TrialState.COMPLETE]
    record = made.filed[guilty[1].key(made.hash)]
    assert (record.number, record.status) == (guilty[0], FAILED)
    assert record.cause == "killed by the system: out of memory"


def test_members_that_are_left_are_proposed_before_new_ones_under_their_numbers(
    bench: Callable[..., Bench],
) -> None:
    made = bench(5, 2)
    left = [*made.propose("a"), *made.propose("b")][:3]
    again = made.new_searcher(2, 2, left)
    packs = []
    while isinstance(pack := again.suggest(f"t{len(packs)}"), dict):
        packs.append(
            [(entry["number"], MemberConfig.from_dict(entry["config"])) for entry in pack["members"]]
        )
    assert [len(members) for members in packs] == [2, 2, 1]
    assert [*packs[0], packs[1][0]] == left
    assert [number for number, _ in (packs[1][1], packs[2][0])] == [4, 5]
    assert again.members == 0


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_packs_of_one_kind_have_as_many_members_as_their_size_has_room_for(
    bench: Callable[..., Bench], sampler: str
) -> None:
    space = (
        "model.hidden={choice: [[4], [8], [16], [8, 8]]}",
        "model.factors={choice: [1, 2]}",
        "model.reference=[16]",
    )
    made = bench(60, 6, f"search.sampler={sampler}", *space)
    rooms = {4: 6, 8: 3, 16: 1}
    made.searcher = made.new_searcher(60, 6, room=lambda member: rooms[member.hidden[0]])
    assert made.searcher.most_trials == 120  # a member a trial, and each again by itself
    packs: list[list[tuple[int, MemberConfig]]] = []
    ahead = []
    while made.searcher.members:
        packs.append(made.propose(f"t{len(packs)}"))
        ahead.append(len(made.states()) - sum(map(len, packs)))
    assert sorted(number for pack in packs for number, _ in pack) == list(range(60))
    for pack in packs:
        assert len({member.kind for _, member in pack}) == 1
        assert len(pack) <= min(rooms[member.hidden[0]] for _, member in pack)
    heads = [pack[0][0] for pack in packs]
    assert heads == sorted(heads)  # nobody waits for ever
    assert max(ahead) <= 6  # members are asked for ahead of what is told, and few of them
    assert max(map(len, packs)) > 2
    assert len(packs) < 50


def test_left_members_are_proposed_in_packs_of_one_kind(bench: Callable[..., Bench]) -> None:
    made = bench(6, 3, "model.hidden={choice: [[4], [8, 8]]}", "model.factors=1")
    left = [*made.propose("a"), *made.propose("b")]
    assert len({member.kind for _, member in left}) == 2
    again = made.new_searcher(0, 3, left, room=lambda _: 3)
    packs = []
    while isinstance(pack := again.suggest(f"t{len(packs)}"), dict):
        packs.append([entry["number"] for entry in pack["members"]])
    assert sorted(number for pack in packs for number in pack) == list(range(6))
    kinds = dict(left)
    assert all(len({kinds[number].kind for number in pack}) == 1 for pack in packs)


def test_an_ask_that_cannot_be_kept_breaks_the_searcher_and_nothing_more_is_proposed(
    bench: Callable[..., Bench], new_record: Callable[..., MemberRecord]
) -> None:
    made = bench(4, 1)
    ((number, member),) = made.propose("a")
    made.filed[member.key(made.hash)] = new_record(number, config=member)
    made.full = True
    assert made.searcher.suggest("b") is None
    assert isinstance(made.searcher.broken, StorageError)
    assert "cannot write 1.json" in str(made.searcher.broken)
    made.searcher.on_trial_complete("a")
    made.full = False
    assert made.searcher.suggest("c") is None
    assert made.states()[0] == TrialState.RUNNING  # left to a resume


def test_a_member_that_is_proposed_twice_is_told_twice(
    bench: Callable[..., Bench], new_record: Callable[..., MemberRecord]
) -> None:
    one_point = (
        *("model.hidden=[16]", "model.factors=1", "model.dropout=0", "training.lr=0.01"),
        *("training.weight_decay=0", "compression.basis=weight", "compression.energy=0.9", "training.seed=0"),
        "model.reference=[16]",
    )
    made = bench(3, 2, *one_point)
    members = [*made.propose("a"), *made.propose("b")]
    (key,) = {member.key(made.hash) for _, member in members}
    made.filed[key] = new_record(members[0][0], config=members[0][1])
    made.searcher.on_trial_complete("a")
    made.searcher.on_trial_complete("b")
    assert made.states() == [TrialState.COMPLETE] * 3


def test_tune_sets_no_properties_of_its_own(bench: Callable[..., Bench]) -> None:
    searcher = bench(1, 1).searcher
    assert searcher.set_search_properties(None, None, {})
    assert searcher.set_search_properties(None, None, {}, num_samples=3)
    assert not searcher.set_search_properties("loss", "min", {})
    assert not searcher.set_search_properties(None, None, {"lr": 0.1})


def test_a_copy_is_the_searcher_and_a_pickle_is_empty(bench: Callable[..., Bench], tmp_path: Path) -> None:
    made = bench(3, 2)
    made.propose("a")
    assert copy.deepcopy(made.searcher) is made.searcher
    nested = copy.deepcopy({"search_alg": made.searcher})
    assert nested["search_alg"] is made.searcher
    empty = pickle.loads(pickle.dumps(made.searcher))
    assert isinstance(empty, PackSearcher)
    assert vars(empty) == {}
    made.searcher.save(str(tmp_path / "searcher.pkl"))
    assert not (tmp_path / "searcher.pkl").exists()
    with pytest.raises(RuntimeError, match="resumed from its ledger"):
        made.searcher.restore(str(tmp_path / "searcher.pkl"))
