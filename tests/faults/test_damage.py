"""Fault 9: a cut record, a damaged journal line, a flipped bit in weights: named, set aside, made again."""

from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow


def test_damaged_files_are_named_by_every_command_and_mended_by_a_resume(
    home: Any, small: tuple[str, ...]
) -> None:
    home.run("sweep", "digits", "search.trials=4", *small, "--quiet")
    ledger = home.ledger
    first, second, third, _ = ledger.members()
    record = ledger.path / "members" / f"{first.key}.json"
    record.write_bytes(record.read_bytes()[:-40])
    weights = ledger.weights(second.key)
    _flip(weights)
    asked = ledger.path / "asked" / f"{third.number}.json"
    asked.write_bytes(asked.read_bytes()[:-40])
    journal = ledger.path / "study.journal"
    with journal.open("ab") as file:
        file.write(b'{"op_code":6,"work')  # a driver that died in the middle of a line: it is made anew
    stamps = {key: home.stamp(key) for key in (first.key, second.key, third.key)}

    _, errors = home.run("show", ledger.facts.id)
    assert f"{record} is damaged" in errors
    assert f"arsvd resume {ledger.facts.id}" in errors
    listed, _ = home.run("list")
    assert "damaged" in listed
    assert str(record) in listed

    _, errors = home.run("resume", ledger.facts.id)
    said = errors.splitlines()
    for path, text in (
        (record, "is damaged"),
        (weights, "its SHA-256 is not the one in the member's record"),
        (asked, "is damaged"),
    ):
        assert sum(f"{path}" in line and text in line and f"{path}.damaged" in line for line in said) == 1, (
            path
        )
        assert Path(f"{path}.damaged").exists()
    assert "2 members on file, 2 more members" in errors
    assert journal.read_bytes().endswith(b"}\n")
    # the member whose asking is lost is on file, which is as good
    assert [member.number for member in home.asked(ledger)] == [0, 1, 3]
    assert home.stamp(first.key) > stamps[first.key]
    assert home.stamp(second.key) > stamps[second.key]
    assert home.stamp(third.key) == stamps[third.key]
    again = {member.key: member for member in ledger.members()}
    assert (again[first.key].number, again[first.key].config) == (first.number, first.config)
    assert ledger.weights(second.key).exists()

    _, errors = home.run("resume", ledger.facts.id)
    assert "damaged" not in errors
    assert "4 members on file, nothing to train" in errors
    assert "damaged" not in home.run("list")[0]


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
