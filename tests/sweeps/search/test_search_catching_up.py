"""A study that is opened again goes on from what is on file, whatever a dead driver or damage has lost."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from arsvd.data import Dataset
from sweeps.config import MemberConfig, SweepConfig
from sweeps.ledger import Ledger, sweep_ids
from sweeps.mending import mended_study
from sweeps.records import FAILED, MemberRecord
from sweeps.search import Study
from sweeps.search.study import INJECTED, KEY, Standing, StudyError

REFERENCE = (17_226, 17_024)


@dataclass
class Sweep:
    """A sweep's directory, with records that are filed by hand."""

    ledger: Ledger
    config: SweepConfig
    new_record: Callable[..., MemberRecord]
    hash: str

    def open(self) -> tuple[Study, Standing, list[str]]:
        said: list[str] = []
        members = self.ledger.members()
        return *mended_study(self.ledger, self.config, self.hash, members, said.append), said

    def file(self, number: int, member: MemberConfig, **changes: object) -> MemberRecord:
        key = member.key(self.hash)
        accuracy = 0.5 + number / 100
        record = self.new_record(number, [(100, accuracy)], config=member, key=key, **changes)
        self.ledger.write_member(record)
        return record

    @property
    def trials(self) -> list[FrozenTrial]:
        storage = JournalStorage(JournalFileBackend(str(self.ledger.journal)))
        return optuna.load_study(study_name=self.ledger.facts.id, storage=storage).trials

    @property
    def states(self) -> list[TrialState]:
        return [trial.state for trial in self.trials]


@pytest.fixture
def new_sweep(
    tmp_path: Path,
    new_config: Callable[..., SweepConfig],
    new_record: Callable[..., MemberRecord],
    digits: Dataset,
) -> Callable[..., Sweep]:
    def make(*overrides: str) -> Sweep:
        config = new_config("search.trials=8", *overrides)
        ledger = Ledger.create(tmp_path, config, digits, REFERENCE)
        return Sweep(ledger, config, new_record, digits.hash)

    return make


def ask(study: Study, members: int) -> list[tuple[int, MemberConfig]]:
    return [study.ask() for _ in range(members)]


def test_a_new_study_has_nothing_left(new_sweep: Callable[..., Sweep]) -> None:
    _, standing, said = new_sweep().open()
    assert (standing, said) == (Standing(0, []), [])


def test_what_is_filed_is_told_and_what_ran_is_left_as_it_was_asked(new_sweep: Callable[..., Sweep]) -> None:
    sweep = new_sweep()
    study, _, _ = sweep.open()
    asked = ask(study, 5)
    study.tell(sweep.file(*asked[0]))
    filed = sweep.file(*asked[1])  # the driver was killed before it could tell
    sweep.file(*asked[2], status=FAILED, cause="diverged", dense=None, asked=None)
    _, standing, said = sweep.open()
    assert standing == Standing(5, asked[3:])
    assert said == []
    complete, fail, running = TrialState.COMPLETE, TrialState.FAIL, TrialState.RUNNING
    assert sweep.states == [complete, complete, fail, running, running]
    assert filed.asked is not None
    assert sweep.trials[1].values == [filed.asked.accuracy, filed.asked.params]
    assert sweep.open()[1] == standing  # as often as one likes


def test_a_trial_that_never_got_its_key_is_closed_and_does_not_count(new_sweep: Callable[..., Sweep]) -> None:
    sweep = new_sweep()
    study, _, _ = sweep.open()
    asked = ask(study, 2)
    lines = sweep.ledger.journal.read_bytes().splitlines(keepends=True)
    (last,) = [number for number, line in enumerate(lines) if asked[1][1].key(sweep.hash).encode() in line]
    sweep.ledger.journal.write_bytes(b"".join(lines[:last]))
    study, standing, _ = sweep.open()
    assert standing == Standing(1, asked[:1])
    assert sweep.states == [TrialState.RUNNING, TrialState.FAIL]
    number, member = study.ask()
    assert number == 2
    assert member != asked[1][1]


def test_a_trial_that_waits_is_no_sweeps_and_the_study_is_made_again(new_sweep: Callable[..., Sweep]) -> None:
    sweep = new_sweep()
    study, _, _ = sweep.open()
    ((_, member),) = ask(study, 1)
    journal = JournalStorage(JournalFileBackend(str(sweep.ledger.journal)))
    waiting = optuna.load_study(study_name=sweep.ledger.facts.id, storage=journal)
    waiting.enqueue_trial({}, user_attrs={KEY: member.key(sweep.hash)})
    _, standing, notes = sweep.open()
    assert standing == Standing(0, [])  # nothing was on file
    assert "waits to be asked" in " ".join(notes)


def test_a_member_that_lost_its_files_is_left_and_its_first_values_stand(
    new_sweep: Callable[..., Sweep],
) -> None:
    sweep = new_sweep()
    study, _, _ = sweep.open()
    asked = ask(study, 2)
    for number, member in asked:
        study.tell(sweep.file(number, member))
    values = sweep.trials[0].values
    sweep.ledger.set_aside_record(asked[0][1].key(sweep.hash))
    study, standing, _ = sweep.open()
    assert standing == Standing(2, asked[:1])
    again = sweep.file(*asked[0], asked=sweep.ledger.members()[0].points[0])  # not quite what it was
    study.tell(again)
    _, standing, said = sweep.open()
    assert (standing, said) == (Standing(2, []), [])
    assert sweep.trials[0].values == values


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc"])  # a child of NSGA-II may equal its parent
def test_a_sampler_that_goes_on_does_not_repeat_its_first_draws(
    new_sweep: Callable[..., Sweep], sampler: str
) -> None:
    sweep = new_sweep(f"search.sampler={sampler}", "training.seed=0")
    study, _, _ = sweep.open()
    for number, member in ask(study, 4):
        study.tell(sweep.file(number, member))
    study, _, _ = sweep.open()
    ask(study, 4)
    assert len({trial.user_attrs[KEY] for trial in sweep.trials}) == 8


# name: what happens to the journal's lines
DAMAGE: dict[str, Callable[[Sequence[bytes]], bytes]] = {
    "the last line is cut": lambda lines: b"".join(lines)[:-20],
    "a line in the middle is cut": lambda lines: b"".join([*lines[:20], lines[20][:9] + b"\n", *lines[21:]]),
    "a line in the middle is noise": lambda lines: b"".join([*lines[:15], b"\xff\x00\n", *lines[16:]]),
    "another was appended to half a line": lambda lines: b"".join([*lines[:25], lines[25][:30], *lines[26:]]),
    "the first line is gone": lambda lines: b"".join(lines[1:]),
    "a number in a line is another": lambda lines: b"".join(lines).replace(
        b'"param_value_internal":0.', b'"param_value_internal":0.0', 1
    ),
    "it is empty": lambda lines: b"",
    "it is of another kind": lambda lines: b"[1, 2]\n" * 4,
    "an operation makes no sense": lambda lines: b"".join(
        [*lines[:10], b'{"op_code":4,"worker_id":"x"}\n', *lines[11:]]
    ),
    "a line is too deep": lambda lines: b"".join([*lines[:12], b"[" * 100_000 + b"\n", *lines[13:]]),
    "a trial is a list": lambda lines: b"".join(lines).replace(b'"trial_id":0', b'"trial_id":[0]'),
    "attributes are a number": lambda lines: b"".join(
        [*lines[:10], b'{"op_code":8,"worker_id":"x","user_attr":5,"trial_id":0}\n', *lines[11:]]
    ),
    "a value is another": lambda lines: b"".join(lines).replace(b"500.0]", b"501.0]", 1),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_journal_is_set_aside_and_the_study_made_again_from_what_is_on_file(
    new_sweep: Callable[..., Sweep], damage: Callable[[Sequence[bytes]], bytes]
) -> None:
    sweep = new_sweep("search.inject=0")
    study, _, _ = sweep.open()
    asked = ask(study, 5)
    for number, member in asked[:3]:
        study.tell(sweep.file(number, member))
    sweep.file(*asked[3], status=FAILED, cause="diverged", dense=None, asked=None)
    journal = sweep.ledger.journal
    whole = journal.read_bytes()
    journal.write_bytes(damage(whole.splitlines(keepends=True)))
    damaged = journal.read_bytes()
    assert damaged != whole

    study, standing, said = sweep.open()
    if damaged:  # an empty journal is one that was never begun
        assert len(said) == 1
        assert f"{journal} is damaged" in said[0]
        assert "study.journal.damaged" in said[0]
        assert journal.with_name("study.journal.damaged").read_bytes().startswith(damaged)
    trials = sweep.trials
    members = {trial.number: trial for trial in trials if KEY in trial.user_attrs}
    assert {members[number].user_attrs[KEY] for number in range(4)} == {
        member.key(sweep.hash) for _, member in asked[:4]
    }
    assert [members[number].state for number in range(4)] == [TrialState.COMPLETE] * 3 + [TrialState.FAIL]
    assert standing.asked == len(members)
    assert standing.left in ([], asked[4:])  # the one that ran is asked for anew where it was lost
    assert INJECTED not in trials[0].user_attrs
    number, member = study.ask()
    study.tell(sweep.file(number, member))
    _, standing, said = sweep.open()
    assert said == []
    assert standing.asked == len(members) + 1


def test_a_member_of_another_sweep_is_refused(new_sweep: Callable[..., Sweep]) -> None:
    sweep = new_sweep("model.dropout={uniform: [0, 0.1]}")
    _, _, _ = sweep.open()
    other = new_sweep("model.dropout={uniform: [0.5, 0.6]}")
    study, _, _ = other.open()
    sweep.file(*study.ask())
    with pytest.raises(StudyError, match=r"member 0 on file is not of this sweep: model\.dropout"):
        sweep.open()


def test_a_lock_that_a_killed_driver_left_in_the_journal_is_removed(new_sweep: Callable[..., Sweep]) -> None:
    sweep = new_sweep()
    ask(sweep.open()[0], 1)
    Path(f"{sweep.ledger.journal}.lock").symlink_to(sweep.ledger.journal)
    study, _, _ = sweep.open()
    ask(study, 1)  # Optuna itself would wait for 30 seconds
    assert not Path(f"{sweep.ledger.journal}.lock").is_symlink()


@pytest.mark.parametrize("killed", [True, False], ids=["killed", "disk full"])
@pytest.mark.parametrize("size", [0, 1, 100, 300, 2000])
def test_a_journal_that_is_cut_as_it_is_begun_goes_on(
    size: int, killed: bool, new_sweep: Callable[..., Sweep], in_child: Callable[..., int]
) -> None:
    sweep = new_sweep()
    assert in_child(lambda: ask(sweep.open()[0], 8), size, killed) != 0
    study, standing, _ = sweep.open()
    asked = [number for number, _ in [*standing.left, *ask(study, 8 - standing.asked)]]
    assert len(set(asked)) == 8
    assert sum(KEY in trial.user_attrs for trial in sweep.trials) == 8


@pytest.mark.parametrize("size", [0, 100, 400, 700])
def test_a_sweep_whose_directory_is_cut_as_it_is_made_was_never_one(
    size: int,
    tmp_path: Path,
    new_config: Callable[..., SweepConfig],
    digits: Dataset,
    in_child: Callable[..., int],
) -> None:
    def make() -> object:
        return Ledger.create(tmp_path, new_config(), digits, REFERENCE)

    assert in_child(make, size) < 0
    assert sweep_ids(tmp_path) == []
    ledger = Ledger.create(tmp_path, new_config(), digits, REFERENCE)
    assert sweep_ids(tmp_path) == [ledger.facts.id]
