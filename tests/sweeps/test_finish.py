"""The figures of a final front: whose dense model is compared with, and what is measured beside it."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

import arsvd
from arsvd import OperatingPoint
from arsvd.data import Dataset
from sweeps.finish import best_dense, with_assurance, with_latency
from sweeps.records import FAILED, Front, FrontPoint, MemberRecord


class Rebuilt:
    """Stands for the ledger's models: an untrained network of a width for each point."""

    def build(self, entry: FrontPoint) -> nn.Module:
        torch.manual_seed(entry.number)
        return arsvd.whole(arsvd.MLP([64, 4 + entry.number, 10]), [0.2], [0.4]).eval()


@pytest.fixture
def front(new_point: Callable[..., OperatingPoint]) -> Front:
    points = tuple(
        FrontPoint("key", number, new_point(10 + number, 0.1 + number / 10)) for number in range(3)
    )
    return Front(points, 0.5, {}, 100, 90, 0.3, points[1], 288)


def test_the_best_dense_member_is_the_first_of_the_most_accurate(
    new_record: Callable[..., MemberRecord],
) -> None:
    failed = new_record(9, dense=None, asked=None, status=FAILED, cause="diverged")
    records = [failed, *(new_record(n, dense=accuracy) for n, accuracy in enumerate((0.9, 0.95, 0.95, 0.8)))]
    assert best_dense(records).number == 1
    with pytest.raises(ValueError, match="none of 1 members was trained"):
        best_dense([failed])


def test_latency_is_added_to_every_point_and_changes_nothing_else(front: Front, digits: Dataset) -> None:
    dense = arsvd.whole(arsvd.MLP([64, 32, 10]), [0.2], [0.4])
    threads = torch.get_num_threads()
    timed = with_latency(front, Rebuilt(), dense, digits)  # type: ignore[arg-type]
    assert torch.get_num_threads() == threads
    for entry in timed.points:
        assert [latency.batch for latency in entry.latency] == [1, 256]
        assert {(latency.threads, latency.device) for latency in entry.latency} == {(1, "cpu")}
    assert timed.best is timed.points[1]
    bare = tuple(replace(entry, latency=()) for entry in timed.points)
    assert replace(timed, points=bare, best=bare[1]) == front
    assert Front.from_dict(timed.to_dict()) == timed


def test_assured_accuracies_come_with_their_confidence(front: Front, digits: Dataset) -> None:
    dense = Rebuilt().build(front.points[2])
    found = with_assurance(front, Rebuilt(), dense, digits, 0.9, max_drop=0.0)  # type: ignore[arg-type]
    assert found.confidence == 0.9
    # the dense model against itself loses nothing, with certainty
    assert found.points[2].assured == front.dense_accuracy
    assert all(entry.assured is not None for entry in found.points)
    assert found.best is not None
    assert found.best.counted >= front.dense_accuracy
    # a bound may take off more than there is: what is registered is a share all the same
    low = with_assurance(replace(front, dense_accuracy=0.01), Rebuilt(), dense, digits, 0.99, max_drop=0.0)  # type: ignore[arg-type]
    assert min(entry.counted for entry in low.points) == 0.0
