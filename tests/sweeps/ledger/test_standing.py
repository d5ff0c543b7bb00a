"""A sweep's front is final once it is filed; until then it is what the members on file give."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from arsvd.data import Dataset
from sweeps.config import SweepConfig
from sweeps.ledger.joined_front import sweep_front
from sweeps.ledger.ledger import Ledger
from sweeps.ledger.records import FAILED, MemberRecord, TestMetrics
from sweeps.ledger.standing import standing_front

REFERENCE = (5000, 4900)


def test_the_front_grows_with_the_members_and_is_final_once_filed(
    tmp_path: Path,
    new_config: Callable[..., SweepConfig],
    new_record: Callable[..., MemberRecord],
    digits: Dataset,
) -> None:
    config = new_config("select.max_drop=0.02")
    ledger = Ledger.create(tmp_path, config, digits, REFERENCE)
    front, final = standing_front(ledger)
    assert (front.points, final) == ((), False)

    ledger.write_member(new_record(0, [(100, 0.90)], dense=0.93))
    ledger.write_member(new_record(1, dense=None, asked=None, status=FAILED, cause="diverged"))
    ledger.write_member(new_record(2, [(200, 0.92), (300, 0.91)]))
    front, final = standing_front(ledger)
    assert not final
    assert [entry.point.params for entry in front.points] == [100, 200]
    assert front == sweep_front(ledger.members(), REFERENCE, 0.02, len(digits.validation))
    assert all(entry.test is None for entry in front.points)

    tested = replace(front, points=tuple(p.with_test(TestMetrics(0.9, 0.9, 0.3)) for p in front.points))
    tested = replace(tested, best=None)
    ledger.write_front(tested)
    ledger.write_member(new_record(3, [(10, 1.0)]))  # what comes later does not change what was measured
    assert standing_front(ledger) == (tested, True)
