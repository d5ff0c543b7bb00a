"""A study goes on from what was asked for and what is on file, whatever a dead driver or damage has lost."""

import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from arsvd.data import Dataset
from sweeps.config import MemberConfig, SweepConfig
from sweeps.ledger.asked import read_asked
from sweeps.ledger.ledger import Ledger, NewerError, sweep_ids
from sweeps.ledger.records import FAILED, MemberRecord
from sweeps.run.mending import most_numbers
from sweeps.search import Study
from sweeps.search.opening import STUDY_VARIABLE, open_study, refuse_databases
from sweeps.search.study import KEY, Standing, StudyError

REFERENCE = (17_226, 17_024)
RELEASE = Path(__file__).parents[2] / "data" / "release-0.1.0"
CUT = "digits-20261126-023154-8605"
# trial number to key, in that sweep of release 0.1.0; other numbers belong to further points of members
OLD_MEMBERS = {
    0: "9dab1e32092d5a112c70",
    1: "5aeecb60b1190f7da45e",
    9: "90e8a3c6d8e42d31679c",
    15: "cf6d3a6aa0b42cb98277",
    24: "cce36cba9fbefcae176f",
}


@dataclass
class Sweep:
    """A sweep's directory, with records that are filed by hand."""

    ledger: Ledger
    config: SweepConfig
    new_record: Callable[..., MemberRecord]
    hash: str

    def open(self) -> tuple[Study, Standing, list[str]]:
        said: list[str] = []
        members, limit = self.ledger.members(), most_numbers(self.ledger)
        study = open_study(self.ledger, self.config, self.hash, members, limit, said.append)
        return study, study.standing, said

    def file(self, number: int, member: MemberConfig, **changes: object) -> MemberRecord:
        key = member.key(self.hash)
        accuracy = 0.5 + number / 100
        record = self.new_record(number, [(100, accuracy)], config=member, key=key, **changes)
        self.ledger.write_member(record)
        return record

    @property
    def journal(self) -> Path:
        return self.ledger.path / "study.journal"

    @property
    def trials(self) -> list[FrozenTrial]:
        storage = JournalStorage(JournalFileBackend(str(self.journal)))
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


def test_filed_members_are_told_and_running_ones_are_left_as_asked(new_sweep: Callable[..., Sweep]) -> None:
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


def test_a_member_that_lost_its_files_is_left_and_trained_again(
    new_sweep: Callable[..., Sweep],
) -> None:
    sweep = new_sweep()
    study, _, _ = sweep.open()
    asked = ask(study, 2)
    for number, member in asked:
        study.tell(sweep.file(number, member))
    sweep.ledger.set_aside_member(asked[0][1].key(sweep.hash))
    study, standing, _ = sweep.open()
    assert standing == Standing(2, asked[:1])
    again = sweep.file(*asked[0], asked=sweep.ledger.members()[0].points[0])  # not quite what it was
    study.tell(again)
    _, standing, said = sweep.open()
    assert (standing, said) == (Standing(2, []), [])
    assert again.asked is not None
    assert sweep.trials[0].values == [again.asked.accuracy, again.asked.params]  # the record is the truth


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


# name: what happens to a file of what was asked for
ASKED: dict[str, Callable[[bytes], bytes]] = {
    "it is cut": lambda content: content[:-9],
    "it is empty": lambda content: b"",
    "it is of another kind": lambda content: b"[1, 2]",
    "its number is past any": lambda content: content.replace(b'"number":4', b'"number":400000'),
    "its key is another's": lambda content: content.replace(b'"key":"', b'"key":"0'),
    "its configuration is another": lambda content: content.replace(b'"epochs":30', b'"epochs":31'),
    "a field is gone": lambda content: content.replace(b'"number"', b'"colour"'),
}


@pytest.mark.parametrize("filed", [True, False], ids=["filed", "not filed"])
@pytest.mark.parametrize("damage", ASKED.values(), ids=ASKED)
def test_a_damaged_request_is_set_aside_and_its_record_replaces_it(
    new_sweep: Callable[..., Sweep], damage: Callable[[bytes], bytes], filed: bool
) -> None:
    sweep = new_sweep()
    asked = ask(sweep.open()[0], 5)
    for number, member in asked[: 5 if filed else 4]:
        sweep.file(number, member)
    path = sweep.ledger.path / "asked" / "4.json"
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert path.read_bytes() != whole
    study, standing, said = sweep.open()
    assert len(said) == 1
    assert f"{path} is damaged" in said[0]
    assert f"{path}.damaged" in said[0]
    assert standing == Standing(5 if filed else 4, [])
    assert study.ask()[0] == (5 if filed else 4)
    _, standing, said = sweep.open()
    assert (standing.asked, said) == (6 if filed else 5, [])


def test_members_that_a_newer_release_asked_for_are_left_alone(new_sweep: Callable[..., Sweep]) -> None:
    sweep = new_sweep()
    ask(sweep.open()[0], 1)
    path = sweep.ledger.path / "asked" / "0.json"
    path.write_text(json.dumps({"version": 3, "members": "many"}))
    with pytest.raises(NewerError, match=f"{path} is a file of asked members of version 3"):
        sweep.open()
    assert path.exists()


# name: what happens to the journal, which nothing reads
JOURNALS: dict[str, Callable[[Path], object]] = {
    "a line is cut": lambda path: path.write_bytes(path.read_bytes()[:-20]),
    "it is gone": lambda path: path.unlink(),
    "it is noise": lambda path: path.write_bytes(b"\xff\x00"),
    "a killed driver left its lock": lambda path: Path(f"{path}.lock").symlink_to(path),
}


@pytest.mark.parametrize("damage", JOURNALS.values(), ids=JOURNALS)
def test_the_journal_for_the_dashboard_is_made_anew_and_appended_to(
    new_sweep: Callable[..., Sweep], damage: Callable[[Path], object]
) -> None:
    sweep = new_sweep()
    study, _, _ = sweep.open()
    asked = ask(study, 3)
    study.tell(sweep.file(*asked[0]))
    before = sweep.states
    assert before == [TrialState.COMPLETE, TrialState.RUNNING, TrialState.RUNNING]
    damage(sweep.journal)
    study, standing, said = sweep.open()
    assert (standing, said) == (Standing(3, asked[1:]), [])
    assert sweep.states == before
    ask(study, 1)  # Optuna itself would wait 30 seconds for the lock
    study.tell(sweep.file(*asked[1]))
    assert sweep.states == [*[TrialState.COMPLETE] * 2, *[TrialState.RUNNING] * 2]
    assert not Path(f"{sweep.journal}.lock").is_symlink()
    storage = JournalStorage(JournalFileBackend(str(sweep.journal)))
    (shown,) = optuna.get_all_study_summaries(storage)
    assert shown.study_name == sweep.ledger.facts.id
    assert optuna.load_study(study_name=None, storage=storage).metric_names == ["accuracy", "params"]


def test_a_sweep_goes_on_without_its_journal(new_sweep: Callable[..., Sweep]) -> None:
    sweep = new_sweep()
    study, _, said = sweep.open()
    sweep.journal.unlink()
    sweep.journal.mkdir()  # nothing can be appended to a folder
    asked = ask(study, 3)
    study.tell(sweep.file(*asked[0]))
    assert len(said) == 1
    assert f"{sweep.journal}, which is for optuna-dashboard only, cannot be written: " in said[0]
    _, standing, said = sweep.open()
    assert (standing, len(said)) == (Standing(3, asked[1:]), 1)


@pytest.fixture
def old(tmp_path: Path, new_record: Callable[..., MemberRecord]) -> Sweep:
    """The interrupted sweep of release 0.1.0."""
    shutil.copytree(RELEASE, tmp_path / "home")
    ledger = Ledger.open(tmp_path / "home", CUT)
    return Sweep(ledger, ledger.config, new_record, ledger.facts.data_hash)


def asked_of(sweep: Sweep) -> dict[int, str]:
    return {member.number: member.key for member in read_asked(sweep.ledger, 10**4, pytest.fail)}


def test_members_of_release_0_1_0_are_imported_once_from_its_journal(old: Sweep) -> None:
    journal = old.journal.read_bytes()
    study, standing, said = old.open()
    assert said == []
    assert asked_of(old) == OLD_MEMBERS
    assert standing.asked == 5
    ((number, member),) = standing.left
    assert (number, study.key(member)) == (24, OLD_MEMBERS[24])
    assert [trial.state for trial in old.trials] == [
        (TrialState.FAIL if number not in OLD_MEMBERS else TrialState.RUNNING)
        if number not in OLD_MEMBERS or number == 24
        else TrialState.COMPLETE
        for number in range(25)
    ]
    number, member = study.ask()
    assert number == 25
    # never again, whatever is in the journal then
    old.journal.write_bytes(journal)
    _, standing, said = old.open()
    assert (standing.asked, said) == (6, [])
    assert asked_of(old) == {**OLD_MEMBERS, 25: study.key(member)}


# name: what happens to the old journal's lines, and how many of the asked members are known from it then
DAMAGE: dict[str, tuple[Callable[[Sequence[bytes]], bytes], int | None]] = {
    "the last line is cut": (lambda lines: b"".join(lines)[:-20], 4),
    "the last line lacks its end": (lambda lines: b"".join(lines)[:-1], 4),
    "a line was appended to half a line": (
        lambda lines: b"".join([*lines[:-1], lines[-1][:9], lines[-1]]),
        4,
    ),
    "half a line was appended": (lambda lines: b"".join([*lines, lines[-1][:30]]), 5),
    "a line in the middle is noise": (
        lambda lines: b"".join([*lines[:15], b"\xff\x00\n", *lines[16:]]),
        None,
    ),
    "a line is too deep": (lambda lines: b"".join([*lines[:12], b"[" * 100_000 + b"\n", *lines[13:]]), None),
    "the first line is gone": (lambda lines: b"".join(lines[1:]), 0),
    "it is empty": (lambda lines: b"", 0),
    "it is of another kind": (lambda lines: b"[1, 2]\n" * 4, 0),
    "an operation makes no sense": (
        lambda lines: b"".join([*lines[:10], b'{"op_code":4,"worker_id":"x"}\n', *lines[11:]]),
        0,
    ),
    "a number in a line is another": (
        lambda lines: b"".join(lines).replace(b'"param_value_internal":0.', b'"param_value_internal":0.0', 1),
        0,
    ),
    "a trial is a list": (lambda lines: b"".join(lines).replace(b'"trial_id":0', b'"trial_id":[0]'), 0),
    "attributes of a further point are a number": (
        lambda lines: re.sub(rb'"user_attrs":\{[^}]*\}', b'"user_attrs":0.5', b"".join(lines), count=1),
        None,
    ),
    "a sampler's note is no number": (
        lambda lines: b"".join(
            [*lines, b'{"op_code":3,"worker_id":"x","system_attr":{"a":NaN},"study_id":0}\n']
        ),
        None,
    ),
    "attributes are a number": (
        lambda lines: b"".join(
            [*lines[:10], b'{"op_code":8,"worker_id":"x","user_attr":5,"trial_id":0}\n', *lines[11:]]
        ),
        None,
    ),
}


@pytest.mark.parametrize(("damage", "known"), DAMAGE.values(), ids=DAMAGE)
def test_an_old_journal_that_is_damaged_is_set_aside_and_no_member_on_file_is_lost(
    old: Sweep, damage: Callable[[Sequence[bytes]], bytes], known: int | None
) -> None:
    lines = old.journal.read_bytes().splitlines(keepends=True)
    old.journal.write_bytes(damage(lines))
    damaged = old.journal.read_bytes()
    study, standing, said = old.open()
    if damaged:
        assert len(said) == 1
        assert f"{old.journal} is damaged" in said[0]
        assert Path(f"{old.journal}.damaged").read_bytes() == damaged
    asked = asked_of(old)
    assert asked.items() <= OLD_MEMBERS.items()
    assert known is None or len(asked) == known
    filed = {record.number: record.key for record in old.ledger.members()}
    assert filed == {number: key for number, key in OLD_MEMBERS.items() if number != 24}
    assert standing.asked == len(asked.keys() | filed.keys())
    assert [number for number, _ in standing.left] == [number for number in asked if number not in filed]
    number, _ = study.ask()
    assert number > max(filed)
    assert old.open()[2] == []


def test_a_study_in_a_database_is_refused_with_how_to_go_on(
    old: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = replace(old.ledger.facts, study="postgresql://db.example/studies")
    old.ledger.write("sweep.json", facts.to_dict())
    with pytest.raises(
        StudyError, match=r"is in postgresql://db\.example/studies.* in release 0\.1\.0, or begin"
    ):
        old.open()
    assert not (old.ledger.path / "asked").exists()
    refuse_databases()
    monkeypatch.setenv(STUDY_VARIABLE, "postgresql://user:secret@db.example/studies")
    with pytest.raises(StudyError, match=r"ARSVD_STUDY is set, and .* unset it") as caught:
        refuse_databases()
    assert "secret" not in str(caught.value)


def test_a_member_of_another_sweep_is_refused(new_sweep: Callable[..., Sweep]) -> None:
    sweep = new_sweep("model.dropout={uniform: [0, 0.1]}")
    _, _, _ = sweep.open()
    other = new_sweep("model.dropout={uniform: [0.5, 0.6]}")
    study, _, _ = other.open()
    sweep.file(*study.ask())
    with pytest.raises(StudyError, match=r"member 0 on file is not of this sweep: model\.dropout"):
        sweep.open()


@pytest.mark.parametrize("killed", [True, False], ids=["killed", "disk full"])
@pytest.mark.parametrize("size", [0, 1, 100, 300])
def test_a_sweep_whose_files_are_cut_short_continues(
    size: int, killed: bool, new_sweep: Callable[..., Sweep], in_child: Callable[..., int]
) -> None:
    sweep = new_sweep()
    assert in_child(lambda: ask(sweep.open()[0], 8), size, killed) != 0
    study, standing, _ = sweep.open()
    asked = [number for number, _ in [*standing.left, *ask(study, 8 - standing.asked)]]
    assert len(set(asked)) == 8
    assert sum(KEY in trial.user_attrs for trial in sweep.trials) == 8
    assert len(read_asked(sweep.ledger, 8, pytest.fail)) == 8


@pytest.mark.parametrize("size", [0, 100, 400, 700])
def test_a_directory_whose_creation_is_interrupted_is_not_a_sweep(
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
