"""What is damaged in a sweep's directory is named and set aside; its members count as not trained."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from arsvd.data import Dataset
from sweeps.config import SweepConfig
from sweeps.ledger.joined_front import sweep_front
from sweeps.ledger.ledger import Ledger, LedgerError
from sweeps.ledger.records import FAILED, MemberRecord
from sweeps.run.mending import whole_members

REFERENCE = (17_226, 17_024)


@pytest.fixture
def ledger(
    tmp_path: Path,
    new_config: Callable[..., SweepConfig],
    new_record: Callable[..., MemberRecord],
    digits: Dataset,
) -> Ledger:
    """Two members that finished, with weights, and one that failed, without."""
    made = Ledger.create(tmp_path, new_config(), digits, REFERENCE)
    for number in (0, 1):
        record = new_record(number, [(100, 0.9)])
        sha256 = made.write_weights(record.key, lambda path: path.write_bytes(b"weights") and None)
        made.write_member(record.with_weights(sha256))
    made.write_member(new_record(2, status=FAILED, cause="diverged", dense=None, asked=None))
    made.write_front(sweep_front(made.members(), REFERENCE, 0.01, 288))
    return made


def test_whole_files_are_left_alone(ledger: Ledger) -> None:
    said: list[str] = []
    before = {path: path.stat().st_mtime_ns for path in ledger.path.rglob("*") if path.is_file()}
    assert whole_members(ledger, said.append) == ledger.members()
    assert said == []
    assert {path: path.stat().st_mtime_ns for path in ledger.path.rglob("*") if path.is_file()} == before


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def swap(path: Path) -> None:
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "key": "0" * 20}))


# name: which of the first member's files, what happens to it, the text that names it
DAMAGE: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "a record is cut": (".json", lambda path: path.write_bytes(path.read_bytes()[:-30]), "is damaged"),
    "a record is empty": (".json", lambda path: path.write_bytes(b""), "is damaged"),
    "a record is of another member": (".json", swap, "is that of 00000000000000000000"),
    "a bit of the weights is another": (".safetensors", flip, "its SHA-256 is not the one"),
    "weights are cut": (".safetensors", lambda path: path.write_bytes(b"weig"), "its SHA-256 is not the one"),
    "weights are gone": (".safetensors", lambda path: path.unlink(), "is missing"),
}


@pytest.mark.parametrize(("suffix", "damage", "text"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_member_is_named_set_aside_and_counts_as_not_trained(
    ledger: Ledger, suffix: str, damage: Callable[[Path], object], text: str
) -> None:
    first, second, failed = ledger.members()
    path = ledger.path / "members" / f"{first.key}{suffix}"
    damage(path)
    damaged = path.read_bytes() if path.exists() else None
    said: list[str] = []
    assert whole_members(ledger, said.append) == [second, failed]
    assert len(said) == 1
    assert text in said[0]
    assert first.key in said[0]
    assert f"{first.key}.json.damaged" in said[0]
    assert "the member is trained again" in said[0]
    assert ledger.member(first.key) is None
    assert ledger.members() == [second, failed]
    assert not ledger.weights(first.key).exists()
    if damaged is not None:
        assert path.with_name(f"{path.name}.damaged").read_bytes() == damaged
    assert whole_members(ledger, said.append) == [second, failed]
    assert len(said) == 1


def renumbered(number: int) -> Callable[[Path], None]:
    return lambda path: path.write_text(json.dumps({**json.loads(path.read_text()), "number": number}))


def test_a_number_that_no_trial_can_have_is_damage(ledger: Ledger) -> None:
    """A study that was lost is made again trial by trial up to the largest number: once for ever."""
    first, second, failed = ledger.members()
    path = ledger.path / "members" / f"{first.key}.json"
    renumbered(2**40)(path)
    said: list[str] = []
    assert whole_members(ledger, said.append) == [second, failed]
    assert f"has the number {2**40}" in said[0]
    renumbered(ledger.config.search.trials * 2)(ledger.path / "members" / f"{second.key}.json")
    assert len(whole_members(ledger, said.append)) == 2
    assert len(said) == 1


@pytest.mark.parametrize("content", ["{", "[]", "3", "[" * 100_000, '{"a": NaN}'], ids=range(5))
def test_a_damaged_provenance_is_set_aside(ledger: Ledger, content: str) -> None:
    (ledger.path / "provenance.json").write_text(content)
    with pytest.raises(LedgerError, match=r"provenance\.json is damaged"):
        ledger.provenance()
    said: list[str] = []
    assert len(whole_members(ledger, said.append)) == 3
    assert [text.split(" is damaged")[0] for text in said] == [str(ledger.path / "provenance.json")]
    assert ledger.provenance() is None
    ledger.write_provenance({"version.torch": "2.11"})
    assert ledger.provenance() == {"version.torch": "2.11"}


def test_a_damaged_front_is_set_aside(ledger: Ledger) -> None:
    (ledger.path / "front.json").write_text("{")
    said: list[str] = []
    assert len(whole_members(ledger, said.append)) == 3
    assert [text.split(" is damaged")[0] for text in said] == [str(ledger.path / "front.json")]
    assert ledger.front() is None
    assert (ledger.path / "front.json.damaged").read_text() == "{"
