"""A sweep's front against brute force, and the choice of its best point."""

import itertools
import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from arsvd import OperatingPoint
from arsvd.fronts import front_hypervolume
from sweeps.ledger.joined_front import best_point, reference_size, sweep_front
from sweeps.ledger.records import FAILED, FrontPoint, MemberRecord

REFERENCE = (5000, 4900)


def brute_force(records: list[MemberRecord]) -> list[tuple[int, float]]:
    """The sizes and accuracies that no other one beats, by comparing every pair."""
    everything = {(point.params, point.accuracy) for record in records for point in record.points}
    return sorted(
        one
        for one in everything
        if not any(other != one and other[0] <= one[0] and other[1] >= one[1] for other in everything)
    )


@pytest.mark.parametrize("seed", range(20))
def test_the_front_is_what_no_point_of_any_member_beats(
    new_record: Callable[..., MemberRecord], seed: int
) -> None:
    draw = random.Random(seed)
    # few distinct values, so that ties in either objective and equal points occur
    records = [
        new_record(
            number,
            [(draw.randint(1, 30), draw.randint(0, 20) / 20) for _ in range(draw.randint(0, 12))],
            dense=draw.random(),
        )
        for number in range(draw.randint(1, 6))
    ]
    front = sweep_front(records, REFERENCE, 0.01, 288)
    found = [(entry.point.params, entry.point.accuracy) for entry in front.points]
    assert found == brute_force(records)
    assert found == sorted(found)
    by_key = {record.key: record for record in records}
    for entry in front.points:
        assert entry.point in by_key[entry.key].points
        assert by_key[entry.key].number == entry.number
        assert entry.test is None
    assert front.hypervolume == pytest.approx(front_hypervolume(found, REFERENCE[0]))
    assert front.dense_accuracy == max(record.dense.accuracy for record in records if record.dense)
    assert (front.reference_params, front.reference_macs, front.validation_images) == (*REFERENCE, 288)


def test_the_front_does_not_depend_on_the_order_of_the_members(
    new_record: Callable[..., MemberRecord],
) -> None:
    records = [
        new_record(0, [(10, 0.5), (20, 0.7)]),
        new_record(1, [(10, 0.5), (30, 0.8)]),
        new_record(2, [(20, 0.6), (30, 0.8)]),
    ]
    fronts = {
        sweep_front(list(order), REFERENCE, 0.01, 288).points for order in itertools.permutations(records)
    }
    assert len(fronts) == 1
    # of equal points the one of the earliest member is kept
    (points,) = fronts
    assert [(entry.number, entry.point.params) for entry in points] == [(0, 10), (0, 20), (1, 30)]


def test_failed_members_add_nothing(new_record: Callable[..., MemberRecord]) -> None:
    good = new_record(0, [(100, 0.9)], dense=0.92)
    failed = new_record(1, [(1, 1.0)], dense=1.0, status=FAILED, cause="diverged")
    bare = new_record(2, dense=None, asked=None, status=FAILED, cause="diverged")
    assert sweep_front([failed, good, bare], REFERENCE, 0.05, 288) == sweep_front(
        [good], REFERENCE, 0.05, 288
    )


def test_a_baselines_point_joins_the_front_and_is_left_out_of_the_baselines_comparison(
    new_record: Callable[..., MemberRecord], new_point: Callable[..., OperatingPoint]
) -> None:
    small, beaten = new_point(10, 0.92, family="fixed"), new_point(150, 0.91, family="fixed")
    weight = new_point(150, 0.93, family="energy", basis="weight")
    records = [
        new_record(0, [(100, 0.9)], baselines={"fixed": (small, beaten), "weight energy": ()}),
        new_record(1, [(200, 0.95)], baselines={"fixed": (), "weight energy": (weight,)}),
    ]
    front = sweep_front(records, REFERENCE, 0.01, 288)
    assert [entry.point for entry in front.points if entry.point.family != "dense"][:2] == [small, weight]
    assert [entry.number for entry in front.points[:2]] == [0, 1]
    fixed, energy = front.baselines["fixed"], front.baselines["weight energy"]
    assert [entry.point for entry in fixed.points] == [small]
    assert [entry.point for entry in energy.points] == [weight]
    # each is held against what the sweep has without it: (100, 0.9), (150, 0.93), (200, 0.95) on a log axis
    rest = [(100, 0.9), (200, 0.95)]
    assert fixed.others_hypervolume == pytest.approx(front_hypervolume([*rest, (150, 0.93)], REFERENCE[0]))
    assert energy.others_hypervolume == pytest.approx(front_hypervolume([*rest, (10, 0.92)], REFERENCE[0]))
    assert fixed.hypervolume > fixed.others_hypervolume  # a baseline that is ahead is said to be ahead
    assert energy.hypervolume < energy.others_hypervolume


def test_a_baselines_point_that_a_search_finds_counts_as_the_baselines(
    new_record: Callable[..., MemberRecord], new_point: Callable[..., OperatingPoint]
) -> None:
    found = new_point(50, 0.9, family="energy", basis="weight")
    front = sweep_front([new_record(0, points=(found,))], REFERENCE, 0.01, 288)
    assert [entry.point for entry in front.baselines["weight energy"].points] == [found]
    assert front.baselines["weight energy"].others_hypervolume == 0.0


def test_the_best_dense_member_and_the_reference_are_named_with_their_sizes(
    new_record: Callable[..., MemberRecord], new_point: Callable[..., OperatingPoint]
) -> None:
    def dense(number: int, params: int, accuracy: float, factors: int = 1) -> MemberRecord:
        record = new_record(number, [])
        point = new_point(params, accuracy, family="dense", basis=None)
        size = replace(point, macs=REFERENCE[1] if params == REFERENCE[0] else params)
        return replace(record, dense=size, config=replace(record.config, factors=factors))

    size = REFERENCE[0]
    records = [dense(0, size, 0.9, factors=2), dense(1, size, 0.8), dense(2, size, 0.85), dense(3, 60, 0.95)]
    for order in itertools.permutations([*records, dense(4, 70, 0.95)]):
        front = sweep_front(order, REFERENCE, 0.01, 288)
        assert front.dense is not None
        assert front.reference is not None
        assert (front.dense.number, front.dense.point.params) == (3, 60)  # of equals the first
        assert (front.reference.number, front.reference.point.accuracy) == (1, 0.8)  # the first plain one
    assert sweep_front(records[:1], REFERENCE, 0.01, 288).reference is None


@pytest.mark.parametrize("failed", [0, 2], ids=["no members", "failed members only"])
def test_without_a_finished_member_the_front_is_empty(
    new_record: Callable[..., MemberRecord], failed: int
) -> None:
    records = [new_record(i, dense=None, asked=None, status=FAILED, cause="x") for i in range(failed)]
    front = sweep_front(records, REFERENCE, 0.01, 288)
    assert (front.points, front.best, front.hypervolume, front.dense_accuracy) == ((), None, 0.0, 0.0)
    assert all(baseline.points == () for baseline in front.baselines.values())
    assert len(front.baselines) == 2


# name: (params, accuracy) of the points, best dense accuracy, max_drop, parameters of the best point
BEST: dict[str, tuple[list[tuple[int, float]], float, float, int | None]] = {
    "fewest parameters within the drop": ([(10, 0.90), (20, 0.96), (30, 0.98)], 0.98, 0.02, 20),
    "exactly at the limit": ([(10, 0.975), (20, 0.98)], 0.98, 0.005, 10),
    "exactly at a limit that is not binary": ([(10, 0.9), (20, 1.0)], 1.0, 0.1, 10),
    "one image of 10,000 below the limit": ([(10, 0.9749), (20, 0.98)], 0.98, 0.005, 20),
    "no drop at all": ([(10, 0.97), (20, 0.98), (30, 0.99)], 0.98, 0.0, 20),
    "better than dense": ([(10, 0.97), (30, 0.99)], 0.98, 0.0, 30),
    "nothing qualifies": ([(10, 0.5), (20, 0.6)], 0.98, 0.005, None),
    "no points": ([], 0.98, 0.005, None),
    "any drop": ([(10, 0.0), (20, 0.98)], 0.98, 0.99, 10),
}


@pytest.mark.parametrize(("sizes", "dense", "drop", "params"), BEST.values(), ids=BEST)
def test_best_is_the_smallest_within_the_drop(
    new_point: Callable[..., OperatingPoint],
    sizes: list[tuple[int, float]],
    dense: float,
    drop: float,
    params: int | None,
) -> None:
    entries = [FrontPoint("key", 0, new_point(*size)) for size in sizes]
    found = best_point(entries, dense, drop)
    assert (None if found is None else found.point.params) == params
    assert found is None or any(found is entry for entry in entries)


def test_the_more_accurate_of_equal_sizes_is_best(new_point: Callable[..., OperatingPoint]) -> None:
    entries = [
        FrontPoint(key, 0, new_point(10, accuracy))
        for key, accuracy in (("a", 0.97), ("b", 0.98), ("c", 0.975))
    ]
    best = best_point(entries, 0.98, 0.05)
    assert best is not None
    assert best.key == "b"


def test_the_assured_accuracy_counts_where_a_confidence_is_requested(
    new_point: Callable[..., OperatingPoint],
) -> None:
    entries = [
        FrontPoint("a", 0, new_point(10, 0.98), assured=0.90),
        FrontPoint("b", 0, new_point(20, 0.97), assured=0.95),
        FrontPoint("c", 0, new_point(30, 0.99), assured=0.97),
    ]
    for drop, key in ((0.09, "a"), (0.08, "a"), (0.04, "b"), (0.01, "c")):
        best = best_point(entries, 0.98, drop)
        assert best is not None
        assert best.key == key
    assert best_point(entries, 0.98, 0.005) is None


def test_drops_are_counted_from_the_best_dense_member_not_from_each_ones_own(
    new_record: Callable[..., MemberRecord],
) -> None:
    records = [new_record(0, [(10, 0.80)], dense=0.80), new_record(1, [(50, 0.94)], dense=0.95)]
    front = sweep_front(records, REFERENCE, 0.02, 288)
    assert front.best is not None
    assert front.best.point.params == 50


def test_a_front_that_holds_its_dense_members_always_has_a_best_point(
    new_record: Callable[..., MemberRecord],
) -> None:
    record = new_record(0, [(10, 0.5)])
    assert record.dense is not None
    whole = new_record(0, [(10, 0.5)], points=(*record.points, record.dense))
    front = sweep_front([whole], REFERENCE, 0.0, 288)
    assert front.best is not None
    assert front.best.point == record.dense


@pytest.mark.parametrize(
    ("widths", "size"),
    [
        ([784, 512, 256, 10], (535_818, 535_040)),  # the reference of the MNIST sweep, as the issue counts it
        ([64, 128, 64, 10], (17_226, 17_024)),
        ([3, 2], (8, 6)),
    ],
)
def test_sizes_count_weights_and_biases(widths: list[int], size: tuple[int, int]) -> None:
    assert reference_size(widths) == size
