"""What trials are to beat: the best accuracy at each size, kept small, filed and read back."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arsvd import OperatingPoint
from arsvd.candidates.refit import FAMILY as REFIT
from sweeps.ledger.best_so_far import BestSoFar
from sweeps.ledger.ledger import BEST_SO_FAR
from sweeps.ledger.records import FAILED, RECOVERED, MemberRecord
from sweeps.ledger.storage import Folder, StorageError, open_storage

pairs = st.lists(st.tuples(st.integers(1, 30), st.integers(0, 20).map(lambda count: count / 20)), max_size=25)


@given(pairs, pairs)
def test_is_the_best_of_all_points_that_are_small_enough(
    first: list[tuple[int, float]], second: list[tuple[int, float]]
) -> None:
    best = BestSoFar(first)
    again = BestSoFar(second)
    again.join(best)
    for size in range(32):
        assert best.accuracy(size) == max((a for params, a in first if params <= size), default=0.0)
        assert again.accuracy(size) == max((a for p, a in first + second if p <= size), default=0.0)
    assert again._params == sorted(set(again._params))
    assert again._accuracies == sorted(set(again._accuracies))  # nothing is kept that decides nowhere


def test_fine_tuned_points_and_failed_members_add_nothing(
    new_record: Callable[..., MemberRecord], new_point: Callable[..., OperatingPoint]
) -> None:
    points = (
        new_point(params=100, accuracy=0.5),
        new_point(params=100, accuracy=0.6).named(REFIT),
        new_point(params=90, accuracy=0.9).named(RECOVERED),
    )
    record = replace(new_record(), points=points)
    best = BestSoFar()
    best.add(replace(record, status=FAILED))
    assert best.accuracy(1000) == 0
    best.add(record)
    assert best.accuracy(99) == 0
    assert best.accuracy(100) == 0.6


def test_is_read_as_it_was_filed(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    best = BestSoFar([(10, 0.5), (20, 0.7), (15, 0.4)])
    best.write(storage)
    found = BestSoFar.read(storage)
    assert [found.accuracy(size) for size in (9, 10, 19, 20)] == [0, 0.5, 0.5, 0.7]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b'{"version":3,"points":[]}',
        b'{"version":1}',
        b'{"version":1,"points":[[1]]}',
        b"\xff",
        b"[" * 100_000,
        b'{"version":1,"points":[[1e999, 0.5]]}',
        b'{"version":1,"points":[["1", 0.5]]}',
        b'{"version":1,"points":[[1, NaN]]}',
        b'{"version":1,"points":[[1, 1.5]]}',
    ],
    ids=range(11),
)
def test_an_unreadable_file_counts_as_empty_and_is_reported(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / BEST_SO_FAR).write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert BestSoFar.read(open_storage(tmp_path)).accuracy(1000) == 0
    assert f"{BEST_SO_FAR} is of no use" in caplog.text


def test_without_a_file_it_is_empty(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert BestSoFar.read(open_storage(tmp_path)).accuracy(1000) == 0
    assert not caplog.records


def test_an_unreachable_directory_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Away(Folder):
        def read(self, name: str) -> bytes:
            raise StorageError(f"cannot read {name}: no route")

    assert BestSoFar.read(Away(tmp_path)).accuracy(1000) == 0
    assert "no route" in caplog.text
