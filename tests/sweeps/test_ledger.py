"""The sweep directory: found again by id, whole or refused by path, never half-written."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from arsvd.data import Dataset
from sweeps.config import ConfigError, SweepConfig
from sweeps.fronts import sweep_front
from sweeps.ledger import Ledger, LedgerError, file_sha256, sweep_ids
from sweeps.records import FAILED, MemberRecord, write_json

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
    "facts are of the future": (
        "sweep.json",
        lambda path: edit(path, version=2),
        "a sweep of version 1 is needed, got version 2",
    ),
    "facts are not UTF-8": ("sweep.json", lambda path: path.write_bytes(b"\xff\xfe{}"), "is damaged"),
    "a member is cut": ("members/*.json", lambda path: cut(path), "is damaged"),
    "a member is a number": ("members/*.json", lambda path: path.write_text("7"), "got version None"),
    "a member is of the future": (
        "members/*.json",
        lambda path: edit(path, version=9),
        "a member record of version 1 is needed, got version 9",
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
        "field lr got 'fast', must be a finite number",
    ),
    "the front is cut": ("front.json", lambda path: cut(path), "is damaged"),
    "the front lacks a field": ("front.json", lambda path: edit(path, hypervolume=None), "hypervolume"),
    "the front's best is none of its points": ("front.json", lambda path: edit(path, best=9), "is damaged"),
    "the front's baselines are a list": ("front.json", lambda path: edit(path, baselines=[]), "is damaged"),
    "the front is of the future": (
        "front.json",
        lambda path: edit(path, version="2"),
        "a front of version 1 is needed, got version '2'",
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


# name: how the write is interrupted
INTERRUPTIONS: dict[str, Callable[[pytest.MonkeyPatch], dict[str, object]]] = {
    "a value that JSON cannot hold, half-way": lambda patch: {"seconds": {"train": 1.0, "x": float("nan")}},
    "no space left": lambda patch: fails(patch, "fsync", OSError(28, "No space left on device")),
    "cannot be renamed": lambda patch: fails(patch, "replace", PermissionError(13, "Permission denied")),
    "Ctrl-C": lambda patch: fails(patch, "fsync", KeyboardInterrupt()),
}


def fails(patch: pytest.MonkeyPatch, name: str, error: BaseException) -> dict[str, object]:
    def raising(*_: object) -> None:
        raise error

    patch.setattr(f"sweeps.records.os.{name}", raising)
    return {}


@pytest.mark.parametrize("interrupt", INTERRUPTIONS.values(), ids=INTERRUPTIONS)
def test_an_interrupted_write_leaves_the_old_record_and_nothing_else(
    ledger: Ledger,
    new_record: Callable[..., MemberRecord],
    monkeypatch: pytest.MonkeyPatch,
    interrupt: Callable[[pytest.MonkeyPatch], dict[str, object]],
) -> None:
    old = new_record(4, [(100, 0.9)])
    ledger.write_member(old)
    before = sorted((ledger.path / "members").iterdir())
    with monkeypatch.context() as patch:
        changes = interrupt(patch)
        with pytest.raises((OSError, ValueError, KeyboardInterrupt)):
            ledger.write_member(new_record(4, [(50, 0.1)], **changes))
    assert sorted((ledger.path / "members").iterdir()) == before
    assert ledger.members() == [old]


WRITER = """
import sys
from pathlib import Path
from sweeps.records import write_json
number = 0
while True:
    number += 1
    write_json(Path(sys.argv[1]), {"version": 1, "number": number, "rows": [number] * 20_000})
    print(number, flush=True)
"""


def test_a_killed_writer_never_leaves_half_a_record(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    try:
        for _ in range(20):
            assert writer.stdout.readline()
            values = json.loads(path.read_text())  # a reader meets a whole record, while another is written
            assert values["rows"] == [values["number"]] * 20_000
        time.sleep(0.003)
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
    values = json.loads(path.read_text())
    assert values["rows"] == [values["number"]] * 20_000
    assert values["number"] >= 20


def test_what_a_killed_writer_leaves_is_not_taken_for_a_record(
    ledger: Ledger, new_record: Callable[..., MemberRecord]
) -> None:
    ledger.write_member(new_record(0))
    (ledger.path / "members" / ".abc.json.k2x9").write_text('{"version": 1, "numb')
    assert [record.number for record in ledger.members()] == [0]


def test_records_can_be_read_by_other_users(tmp_path: Path) -> None:
    write_json(tmp_path / "record.json", {"version": 1})
    assert (tmp_path / "record.json").stat().st_mode & 0o777 == 0o644


def test_a_file_is_hashed_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    # FIPS 180-2, appendix B.1
    assert file_sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
