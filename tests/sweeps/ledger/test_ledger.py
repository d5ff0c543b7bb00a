"""The sweep directory: found again by id, whole or refused by path, never half-written."""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from arsvd.data import Dataset
from sweeps.config import ConfigError, SweepConfig
from sweeps.ledger.asked import Asked, read_asked, write_asked
from sweeps.ledger.joined_front import sweep_front
from sweeps.ledger.ledger import Ledger, LedgerError, sweep_ids
from sweeps.ledger.records import FAILED, MemberRecord
from sweeps.ledger.storage import StorageError, file_sha256

REFERENCE = (17_226, 17_024)


@pytest.fixture
def ledger(tmp_path: Path, new_config: Callable[..., SweepConfig], digits: Dataset) -> Ledger:
    return Ledger.create(tmp_path / "home", new_config("search.trials=3"), digits, REFERENCE)


def make_sweeps(home: Path, *names: str) -> None:
    for age, name in enumerate(reversed(names)):
        (home / "sweeps" / name).mkdir(parents=True)
        (home / "sweeps" / name / "sweep.json").write_text("{}")
        os.utime(home / "sweeps" / name / "sweep.json", (1e9 - age, 1e9 - age))


def test_a_new_sweep_is_found_again_with_its_configuration(
    ledger: Ledger, tmp_path: Path, digits: Dataset, new_config: Callable[..., SweepConfig]
) -> None:
    found = Ledger.open(tmp_path / "home", ledger.facts.id)
    assert found.path == ledger.path == tmp_path / "home" / "sweeps" / ledger.facts.id
    assert found.config == new_config("search.trials=3")
    facts = found.facts
    assert (facts.dataset, facts.data_hash, facts.reference) == ("digits", digits.hash, REFERENCE)
    assert facts.validation_images == len(digits.validation)
    assert facts.id.startswith("digits-")
    assert facts.began.endswith("Z")
    assert found.members() == []
    assert found.front() is None


def test_two_sweeps_of_one_second_have_their_own_directories(
    tmp_path: Path, new_config: Callable[..., SweepConfig], digits: Dataset
) -> None:
    ids = {Ledger.create(tmp_path, new_config(), digits, REFERENCE).facts.id for _ in range(5)}
    assert len(ids) == 5
    assert set(sweep_ids(tmp_path)) == ids


# name: what is asked for, what is found or the error's text
NAMES = {
    "whole id": ("mnist-1", "mnist-1"),
    "whole id that begins another": ("digits-1", "digits-1"),
    "beginning of one": ("mni", "mnist-1"),
    "beginning of several": (
        "digits-",
        "several sweeps begin with 'digits-': digits-2, digits-1, digits-11",
    ),
    "unknown": ("cifar", "there is no sweep 'cifar' under"),
    "nothing": ("", "the latest are: digits-2, digits-1, digits-11, mnist-1"),
    "path out of the home": ("../sweeps/mnist-1", "there is no sweep '../sweeps/mnist-1'"),
    "glob": ("mnist*", "there is no sweep 'mnist*'"),
}


@pytest.mark.parametrize(("asked", "answer"), NAMES.values(), ids=NAMES)
def test_a_sweep_is_opened_by_its_id_or_a_beginning(tmp_path: Path, asked: str, answer: str) -> None:
    make_sweeps(tmp_path, "digits-2", "digits-1", "digits-11", "mnist-1")
    (tmp_path / "sweeps" / "mnist-2").mkdir()  # no sweep.json: it was never begun
    if answer in ("mnist-1", "digits-1"):
        assert Ledger.open(tmp_path, asked).path == tmp_path / "sweeps" / answer
    else:
        with pytest.raises(LedgerError) as caught:
            Ledger.open(tmp_path, asked)
        assert answer in str(caught.value)


def test_a_home_without_sweeps_says_so(tmp_path: Path) -> None:
    assert sweep_ids(tmp_path / "nowhere") == []
    with pytest.raises(LedgerError, match="the latest are: none yet"):
        Ledger.open(tmp_path / "nowhere", "digits")
    assert not (tmp_path / "nowhere").exists()


def test_members_come_in_the_order_of_their_trials(
    ledger: Ledger, new_record: Callable[..., MemberRecord]
) -> None:
    records = {number: new_record(number, [(10 * number + 1, 0.5)]) for number in (11, 2, 0, 7)}
    for record in records.values():
        ledger.write_member(record)
    assert [record.number for record in ledger.members()] == [0, 2, 7, 11]
    assert ledger.members() == [records[number] for number in (0, 2, 7, 11)]
    assert ledger.member(records[7].key) == records[7]
    assert ledger.member("unknown") is None


def test_a_member_that_is_filed_again_replaces_its_record(
    ledger: Ledger, new_record: Callable[..., MemberRecord]
) -> None:
    ledger.write_member(new_record(1, status=FAILED, cause="power cut", dense=None, asked=None))
    ledger.write_member(new_record(1, [(5, 0.5)]).with_weights("ab" * 32))
    (record,) = ledger.members()
    assert (record.status, record.weights_sha256) == ("finished", "ab" * 32)


def test_the_front_comes_back_as_it_was_filed(
    ledger: Ledger, new_record: Callable[..., MemberRecord]
) -> None:
    front = sweep_front([new_record(0, [(100, 0.9), (400, 0.945)])], REFERENCE, 0.01, 288)
    assert front.best is not None
    ledger.write_front(front)
    again = ledger.front()
    assert again == front
    assert again is not None
    assert again.best is again.points[1]


# name: file, what happens to it, the text that must be in the error
DAMAGE: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "facts are gone": ("sweep.json", lambda path: path.unlink(), "is missing"),
    "facts are no JSON": ("sweep.json", lambda path: path.write_text('{"id"'), "is damaged"),
    "facts are empty": ("sweep.json", lambda path: path.write_text(""), "is damaged"),
    "facts are a list": ("sweep.json", lambda path: path.write_text("[]"), "got version None"),
    "facts lack a field": ("sweep.json", lambda path: edit(path, began=None), "is damaged"),
    "facts are of no version": (
        "sweep.json",
        lambda path: edit(path, version=0),
        "a sweep of version 1 to 2 is needed, got version 0",
    ),
    "facts are not UTF-8": ("sweep.json", lambda path: path.write_bytes(b"\xff\xfe{}"), "is damaged"),
    "a member is cut": ("members/*.json", lambda path: cut(path), "is damaged"),
    "a member is a number": ("members/*.json", lambda path: path.write_text("7"), "got version None"),
    "a member is of no version": (
        "members/*.json",
        lambda path: edit(path, version=-9),
        "a member record of version 1 to 2 is needed, got version -9",
    ),
    "a member lacks its points": ("members/*.json", lambda path: edit(path, points=None), "missing points"),
    "a member's points are no list": ("members/*.json", lambda path: edit(path, points=3), "is damaged"),
    "a member has a field too many": (
        "members/*.json",
        lambda path: edit(path, colour="red"),
        "unknown colour",
    ),
    "a member's configuration is wrong": (
        "members/*.json",
        lambda path: edit(path, config={"lr": "fast"}),
        "field lr got 'fast', must be a number > 0",
    ),
    "the front is cut": ("front.json", lambda path: cut(path), "is damaged"),
    "the front lacks a field": ("front.json", lambda path: edit(path, hypervolume=None), "hypervolume"),
    "the front's best is none of its points": ("front.json", lambda path: edit(path, best=9), "is damaged"),
    "the front's baselines are a list": ("front.json", lambda path: edit(path, baselines=[]), "is damaged"),
    "the front's version is a text": (
        "front.json",
        lambda path: edit(path, version="2"),
        "a front of version 1 to 2 is needed, got version '2'",
    ),
}


def edit(path: Path, **changes: object) -> None:
    gone = [key for key, value in changes.items() if value is None]
    values = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in values.items() if key not in gone}))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize(("name", "damage", "text"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_named_once_with_its_path(
    ledger: Ledger,
    new_record: Callable[..., MemberRecord],
    name: str,
    damage: Callable[[Path], object],
    text: str,
) -> None:
    records = [new_record(0, [(100, 0.9)])]
    ledger.write_member(records[0])
    ledger.write_front(sweep_front(records, REFERENCE, 0.01, 288))
    (path,) = ledger.path.glob(name)
    damage(path)
    with pytest.raises(LedgerError) as caught:
        _ = ledger.facts, ledger.members(), ledger.front()
    assert text in str(caught.value)
    assert str(caught.value).count(str(path)) == 1


def test_a_damaged_sweep_file_is_named_with_its_path(ledger: Ledger) -> None:
    (ledger.path / "sweep.yaml").write_text("dataset: {name: digits")
    with pytest.raises(ConfigError, match=r"sweep\.yaml"):
        _ = ledger.config
    (ledger.path / "sweep.yaml").unlink()
    with pytest.raises(ConfigError, match="there is no such file"):
        _ = ledger.config


def test_a_record_that_cannot_be_written_leaves_the_old_one(
    ledger: Ledger, new_record: Callable[..., MemberRecord]
) -> None:
    old = new_record(4, [(100, 0.9)])
    ledger.write_member(old)
    with pytest.raises(ValueError, match="not JSON compliant"):
        ledger.write_member(new_record(4, [(50, 0.1)], seconds={"train": float("nan")}))
    assert ledger.members() == [old]


def test_leftovers_of_a_killed_writer_are_not_taken_for_records(
    ledger: Ledger, new_record: Callable[..., MemberRecord]
) -> None:
    ledger.write_member(new_record(0))
    (ledger.path / "members" / ".abc.json.k2x9").write_text('{"version": 1, "numb')
    assert [record.number for record in ledger.members()] == [0]


def test_records_can_be_read_by_other_users(ledger: Ledger, new_record: Callable[..., MemberRecord]) -> None:
    ledger.write_member(new_record(0))
    (path,) = (ledger.path / "members").iterdir()
    assert path.stat().st_mode & 0o777 == 0o644


def test_weights_are_hashed_and_read_back_only_as_they_were_filed(ledger: Ledger) -> None:
    sha256 = ledger.write_weights("abc", lambda path: path.write_bytes(b"abc") and None)
    assert sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    with ledger.read_weights("abc", sha256) as path:
        assert path.read_bytes() == b"abc"
    ledger.weights("abc").write_bytes(b"abd")
    with pytest.raises(LedgerError, match=r"abc\.safetensors is damaged"), ledger.read_weights("abc", sha256):
        pass
    ledger.weights("abc").unlink()
    with pytest.raises(LedgerError, match=r"abc\.safetensors is missing"), ledger.read_weights("abc", sha256):
        pass


def test_an_unusable_scratch_disk_does_not_count_as_a_members_failure(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(StorageError, match=r"^cannot write .*missing"):
        ledger.write_weights("abc", lambda path: path.write_bytes(b"abc") and None)
    with pytest.raises(StorageError, match=r"^cannot write .*missing"), ledger.new_report():
        pass
    assert not ledger.weights("abc").exists()


def test_a_checkpoint_is_kept_replaced_and_dropped(
    ledger: Ledger, new_record: Callable[..., MemberRecord]
) -> None:
    assert ledger.read_checkpoint("abc") is None
    ledger.write_checkpoint("abc", b"1")
    ledger.write_checkpoint("abc", b"2")
    assert ledger.read_checkpoint("abc") == b"2"
    assert ledger.members() == []
    ledger.drop_checkpoint("abc")
    ledger.drop_checkpoint("abc")
    assert ledger.read_checkpoint("abc") is None
    assert list((ledger.path / "members").iterdir()) == []


def test_a_ledger_in_a_bucket_is_the_same(
    new_bucket: Callable[[], str],
    new_config: Callable[..., SweepConfig],
    new_record: Callable[..., MemberRecord],
    digits: Dataset,
) -> None:
    home = new_bucket()
    made = Ledger.create(home, new_config("search.trials=3"), digits, REFERENCE)
    assert sweep_ids(home) == [made.facts.id]
    found = Ledger.open(home, "digits")
    assert found.location == f"{home}/sweeps/{made.facts.id}"
    assert found.home == home
    assert found.config.search.trials == 3
    assert found.changed_config(("search.trials=4",)).search.trials == 4
    with pytest.raises(ConfigError, match=rf"{home}/.*/sweep\.yaml' with its overrides has a fault"):
        found.changed_config(("search.trials=none",))
    record = new_record(1, [(100, 0.9)])
    found.write_member(record)
    found.write_checkpoint(record.key, b"1")
    sha256 = found.write_weights(record.key, lambda path: path.write_bytes(b"abc") and None)
    assert found.members() == [record]
    asked = Asked(1, record.config.key(digits.hash), record.config, {"generation": 1}, {"id": 3})
    write_asked(found, asked)
    assert read_asked(found, 2, pytest.fail) == [asked]
    assert found.read_checkpoint(record.key) == b"1"
    with found.read_weights(record.key, sha256) as path:
        assert path.read_bytes() == b"abc"
    with found.new_report() as folder:
        (folder / "front.csv").write_text("params")
    assert found.storage.read("report/front.csv") == b"params"
    with pytest.raises(LedgerError, match="is not a folder of this machine"):
        _ = found.path


def test_a_front_is_no_longer_final_once_the_sweep_goes_on(
    ledger: Ledger, new_record: Callable[..., MemberRecord]
) -> None:
    front = sweep_front([new_record(0, [(100, 0.9)])], REFERENCE, 0.01, 288)
    ledger.reopen()
    ledger.write_front(front)
    ledger.reopen()
    assert ledger.front() is None
    assert ledger.storage.exists("front-so-far.json")
    ledger.write_front(front)
    assert ledger.front() == front
    assert not ledger.storage.exists("front-so-far.json")


def test_a_file_is_hashed_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    # FIPS 180-2, appendix B.1
    assert file_sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
