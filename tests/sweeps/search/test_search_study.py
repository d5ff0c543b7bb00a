"""What every sampler promises, on a real Optuna study that is shown in a journal."""

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from arsvd import OperatingPoint
from sweeps.config import MemberConfig, Space, SweepConfig, member_seed
from sweeps.ledger.asked import Asked
from sweeps.ledger.records import FAILED, FINISHED, MemberRecord
from sweeps.search import Study
from sweeps.search.journal import Journal
from sweeps.search.study import KEY, Standing

SAMPLERS = ("tpe", "nsga2", "random", "qmc")
OBJECTIVES = (("accuracy",), ("accuracy", "params"), ("loss", "macs", "macro_f1"))
UPWARDS = ("accuracy", "macro_f1")
FIXED = (
    "model.hidden=[16]",
    "model.factors=1",
    "model.dropout=0",
    "training.lr=0.01",
    "training.weight_decay=0",
    "compression.basis=weight",
    "compression.energy=0.9",
    "model.reference=[16]",
)

every_sampler = pytest.mark.parametrize("sampler", SAMPLERS)


@dataclass
class Search:
    """A study, what it keeps, and its journal read by Optuna alone."""

    config: SweepConfig
    journal: Path
    hash: str
    kept: list[Asked] = field(default_factory=list)
    records: list[MemberRecord] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.study = self.open()

    def open(self) -> Study:
        """Make the study from what was kept, and what is in `records`."""
        self.study = Study(
            self.config, self.hash, asked=list(self.kept), records=self.records, keep=self.kept.append
        )
        self.study.show_in(partial(Journal, self.journal, "sweep", note=pytest.fail))
        return self.study

    @property
    def optuna(self) -> optuna.Study:
        storage = JournalStorage(JournalFileBackend(str(self.journal)))
        return optuna.load_study(study_name="sweep", storage=storage)

    @property
    def asked(self) -> list[FrozenTrial]:
        return self.optuna.trials

    def train(self, number: int, member: MemberConfig) -> MemberRecord:
        return train(self.config, number, member, member.key(self.hash))

    def run(self, members: int) -> list[MemberRecord]:
        """Ask, train and tell, one after the other."""
        records = []
        for _ in range(members):
            record = self.train(*self.study.ask())
            self.study.tell(record)
            records.append(record)
        self.records += records
        return records


@pytest.fixture
def search(tmp_path: Path, new_config: Callable[..., SweepConfig], engine_hash: str) -> Callable[..., Search]:
    def open_(*overrides: str, journal: str = "journal") -> Search:
        config = new_config(
            "search.trials=24",
            "model.reference=[64, 32]",
            "compression.basis={choice: [activation, weight]}",
            "compression.energy.points=12",
            *overrides,
        )
        return Search(config, tmp_path / journal, engine_hash)

    return open_


def train(config: SweepConfig, number: int, member: MemberConfig, key: str) -> MemberRecord:
    """Make up a member's points: larger at higher thresholds, mostly more accurate, with a dip and a tie."""
    skill = 0.9 - abs(member.lr - 0.005) * 10
    space = Space.from_config(config)

    def point(threshold: float, basis: str, rule: str) -> OperatingPoint:
        step = int(threshold * 40)
        smaller = rule == "entropy"
        accuracy = round(skill * (1 - (1 - threshold) ** 2) - (0.1 if step % 3 == 0 else 0.01 * smaller), 2)
        return OperatingPoint(
            ranks=(step, None),
            params=100 * step - 5 * smaller,
            macs=90 * step,
            accuracy=accuracy,
            macro_f1=accuracy - 0.01,
            loss=1.0 - accuracy,
            family=rule,
            basis=basis,
            threshold=threshold,
        )

    measured = [
        point(threshold, basis, rule)
        for basis in space.bases()
        for rule in space.rules()
        if rule == "energy" or basis == "weight"
        for threshold in space.energies()
    ]
    dense = replace(measured[-1], ranks=(None, None), family="dense", basis=None, threshold=None)
    others = [
        replace(measured[0], params=1, accuracy=1.0, family="recovered", threshold=None),
        replace(measured[0], params=2, accuracy=1.0, family="budget", threshold=None),
    ]
    asked = point(member.energy, member.basis, member.rule)
    return MemberRecord(
        key=key,
        number=number,
        status=FINISHED,
        cause=None,
        config=member,
        dense=dense,
        asked=asked,
        points=(dense, *measured, *others),
    )


def values(point: OperatingPoint, objectives: Sequence[str]) -> list[float]:
    return [float(getattr(point, name)) for name in objectives]


def beats(one: Sequence[float], other: Sequence[float], objectives: Sequence[str]) -> bool:
    signs = [1 if name in UPWARDS else -1 for name in objectives]
    gains = [sign * (a - b) for sign, a, b in zip(signs, one, other, strict=True)]
    return min(gains) >= 0 and max(gains) > 0


@every_sampler
def test_members_that_are_asked_lie_in_the_space(search: Callable[..., Search], sampler: str) -> None:
    run = search(f"search.sampler={sampler}", "search.seed=3")
    space = Space.from_config(run.config)
    records = run.run(12)
    assert len(run.asked) == 12
    assert [trial.number for trial in run.asked] == [record.number for record in records]
    for trial, record in zip(run.asked, records, strict=True):
        member = record.config
        assert space.resolve(trial.params, member.seed) == member
        assert set(space.encode(member)) == set(trial.params) == set(space.distributions)
        assert trial.user_attrs[KEY] == record.key
        assert member.seed == member_seed(3, trial.number)
    assert len({record.key for record in records}) == 12


# the widths of the reference, and the state that its trial ends in: outside the space it teaches nothing
REFERENCES = {"inside the space": ("[64, 32]", TrialState.COMPLETE), "outside": ("[37, 5]", TrialState.FAIL)}


@every_sampler
@pytest.mark.parametrize(("widths", "ended"), REFERENCES.values(), ids=REFERENCES)
def test_the_first_member_is_the_reference_plain_and_at_the_middle_of_every_setting(
    search: Callable[..., Search], sampler: str, widths: str, ended: TrialState
) -> None:
    run = search(f"search.sampler={sampler}", f"model.reference={widths}")
    number, member = run.study.ask()
    assert (number, list(member.hidden), member.factors) == (0, json.loads(widths), 1)
    assert (member.dropout, member.lr) == (
        0.15,
        0.00447214,
    )  # the latter in the logarithm
    assert member.basis == "activation"
    assert member.seed == member_seed(0, 0)
    # asked for and not on file: it is left to train, also after the driver was lost
    assert run.open().standing == Standing(1, [(0, member)])
    record = run.train(0, member)
    run.study.tell(record)
    (trial,) = run.asked
    assert trial.state == ended
    run.records = [record]
    assert run.open().standing == Standing(1, [])
    rest = [run.study.ask() for _ in range(5)]
    assert [number for number, _ in rest] == [1, 2, 3, 4, 5]
    assert all(other != member for _, other in rest)
    # a member whose asking was lost is known from its record
    run.kept.clear()
    assert run.open().standing == Standing(1, [])
    assert run.study.ask()[0] == 1


@every_sampler
@pytest.mark.parametrize("objectives", OBJECTIVES, ids=lambda names: "+".join(names))
def test_members_are_told_at_their_asked_point(
    search: Callable[..., Search], sampler: str, objectives: tuple[str, ...]
) -> None:
    run = search(f"search.sampler={sampler}", f"search.objectives=[{', '.join(objectives)}]")
    records = run.run(7)
    assert run.optuna.directions == [
        StudyDirection.MAXIMIZE if name in UPWARDS else StudyDirection.MINIMIZE for name in objectives
    ]
    for trial, record in zip(run.asked, records, strict=True):
        assert record.asked is not None
        assert (trial.state, trial.values) == (TrialState.COMPLETE, values(record.asked, objectives))


@every_sampler
def test_a_space_in_which_nothing_is_searched(search: Callable[..., Search], sampler: str) -> None:
    run = search(f"search.sampler={sampler}", *FIXED)
    assert Space.from_config(run.config).distributions == {}
    records = run.run(4)
    assert len({record.key for record in records}) == 4  # the seeds differ
    assert len({replace(record.config, seed=0) for record in records}) == 1
    assert [trial.state for trial in run.asked] == [TrialState.COMPLETE] * 4
    assert all(trial.params == {} for trial in run.asked)


def test_a_member_asked_for_again_is_told_again(search: Callable[..., Search]) -> None:
    fixed_but_energy = [override for override in FIXED if "energy" not in override]
    run = search(*fixed_but_energy, "compression.energy={choice: [0.5, 0.9]}", "training.seed=0")
    first = run.train(*run.study.ask())
    number, member = run.study.ask()
    while member != first.config:
        number, member = run.study.ask()
    assert member.key(run.hash) == first.key
    run.study.tell(first)
    run.study.tell(first, number)
    told = [trial for trial in run.asked if trial.state == TrialState.COMPLETE]
    assert [trial.number for trial in told] == [first.number, number]
    assert told[0].values == told[1].values


@every_sampler
def test_failures_are_told_and_the_search_goes_on(search: Callable[..., Search], sampler: str) -> None:
    run = search(f"search.sampler={sampler}")
    run.run(2)
    number, member = run.study.ask()
    failed = MemberRecord(member.key(run.hash), number, FAILED, "diverged", member)
    run.study.tell(failed)
    run.study.tell(failed)  # a trial may be reported twice
    lost, config = run.study.ask()
    run.study.tell(MemberRecord(config.key(run.hash), lost, FAILED, "its process was killed", config))
    states = {trial.number: trial.state for trial in run.asked}
    assert states[number] == states[lost] == TrialState.FAIL
    assert len(run.asked) == 4
    run.run(3)
    assert [trial.state for trial in run.asked].count(TrialState.COMPLETE) == 5


@every_sampler
def test_members_of_a_pack_are_asked_before_any_is_told(search: Callable[..., Search], sampler: str) -> None:
    run = search(f"search.sampler={sampler}")
    run.run(4)
    pack = [run.study.ask() for _ in range(6)]
    assert len({number for number, _ in pack}) == len({member.key(run.hash) for _, member in pack}) == 6
    assert len({replace(member, seed=0) for _, member in pack}) == 6
    for number, member in reversed(pack):
        run.study.tell(run.train(number, member))
    assert [trial.state for trial in run.asked] == [TrialState.COMPLETE] * 10


@every_sampler
def test_a_study_that_is_made_again_is_as_it_was_and_goes_on(
    search: Callable[..., Search], sampler: str
) -> None:
    run = search(f"search.sampler={sampler}", "search.trials=24")
    run.run(13)  # of NSGA-II, more than two generations
    running, member = run.study.ask()
    before = run.optuna
    assert run.open().standing == Standing(14, [(running, member)])
    after = run.optuna
    assert after.directions == before.directions
    assert after.metric_names == before.metric_names == ["accuracy", "params"]
    for one, other in zip(before.trials, after.trials, strict=True):
        assert (one.state, one.values, one.user_attrs) == (other.state, other.values, other.user_attrs)
        assert one.system_attrs == other.system_attrs
        assert one.params == pytest.approx(other.params, abs=1e-9)
    run.study.tell(run.train(running, member))  # asked by one driver, told by the next
    later = run.run(3)
    assert [record.number for record in later] == [14, 15, 16]
    assert {record.key for record in later}.isdisjoint(record.key for record in run.records[:13])


def test_a_quasi_random_sequence_goes_on_where_it_was(search: Callable[..., Search]) -> None:
    changes = ("search.sampler=qmc", "training.seed=0")
    whole = [record.config for record in search(*changes, journal="whole").run(9)]
    halves = search(*changes)
    found = [record.config for record in halves.run(5)]
    halves.open()
    assert found + [record.config for record in halves.run(4)] == whole


def test_children_of_nsga2_are_bred_from_the_generation_before(search: Callable[..., Search]) -> None:
    run = search("search.sampler=nsga2", "search.trials=24")
    run.run(13)
    run.open()
    sampler = run.study._study.sampler
    assert isinstance(sampler, optuna.samplers.NSGAIISampler)
    run.run(6)
    generations = [trial.system_attrs.get(sampler._get_generation_key()) for trial in run.asked]
    # the reference is drawn by nobody and in no generation
    assert generations == [None, *[number // sampler.population_size for number in range(18)]]


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_numbers_without_a_member_teach_nothing(search: Callable[..., Search], sampler: str) -> None:
    """Release 0.1.0 could give numbers to further points of members."""
    run = search(f"search.sampler={sampler}")
    run.run(3)
    run.records = [replace(record, number=3 * record.number) for record in run.records]
    run.kept[:] = [replace(member, number=3 * member.number) for member in run.kept]
    assert run.open().standing == Standing(3, [])
    assert [trial.state.name for trial in run.asked] == ["COMPLETE", *["FAIL", "FAIL", "COMPLETE"] * 2]
    assert run.study.ask()[0] == 7


@every_sampler
def test_the_same_seed_asks_for_the_same_members(search: Callable[..., Search], sampler: str) -> None:
    runs = [
        search(f"search.sampler={sampler}", f"search.seed={seed}", journal=f"{seed}-{turn}").run(8)
        for turn, seed in enumerate((7, 7, 8))
    ]
    same, again, other = ([record.config for record in records] for records in runs)
    assert same == again
    assert not set(same) & set(other)


def test_samplers_differ(search: Callable[..., Search]) -> None:
    found = {
        name: [record.config for record in search(f"search.sampler={name}", journal=name).run(8)]
        for name in SAMPLERS
    }
    for one, other in itertools.combinations(SAMPLERS, 2):
        assert found[one] != found[other], f"{one} and {other} ask for the same members"


def test_tpe_learns_from_what_it_is_told(search: Callable[..., Search]) -> None:
    """After a random start, members come from where accuracy is high: here learning rates near 0.005."""
    run = search("search.sampler=tpe", "search.objectives=[accuracy]", "search.trials=60")
    rates = [record.config.lr for record in run.run(60)]
    start, end = rates[:10], rates[-10:]
    assert sum(abs(rate - 0.005) for rate in end) < 0.5 * sum(abs(rate - 0.005) for rate in start)
