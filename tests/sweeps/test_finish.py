"""The figures of a final front: whose dense model is compared with, and what is measured beside it."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

import arsvd
from arsvd import OperatingPoint
from arsvd.data import Dataset
from sweeps.finish import best_dense, with_assurance, with_latency, with_test
from sweeps.records import FAILED, Front, FrontPoint, MemberRecord


def rebuilt(front: Front) -> list[nn.Module]:
    """Stand for the ledger's models: an untrained network of a width for each point."""
    networks = []
    for entry in front.points:
        torch.manual_seed(entry.number)
        networks.append(arsvd.whole(arsvd.MLP([64, 4 + entry.number, 10]), [0.2], [0.4]).eval())
    return networks


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
    timed = with_latency(front, rebuilt(front), dense, digits)
    assert torch.get_num_threads() == threads
    for entry in timed.points:
        assert [latency.batch for latency in entry.latency] == [1, 256]
        assert {(latency.threads, latency.device) for latency in entry.latency} == {(1, "cpu")}
    assert timed.best is timed.points[1]
    bare = tuple(replace(entry, latency=()) for entry in timed.points)
    assert replace(timed, points=bare, best=bare[1]) == front
    assert Front.from_dict(timed.to_dict()) == timed


def test_assured_accuracies_come_with_their_confidence(front: Front, digits: Dataset) -> None:
    networks = rebuilt(front)
    found = with_assurance(front, networks, networks[2], digits, 0.9, max_drop=0.0)
    assert found.confidence == 0.9
    # the dense model against itself loses nothing, with certainty
    assert found.points[2].assured == front.dense_accuracy
    assert all(entry.assured is not None for entry in found.points)
    assert found.best is not None
    assert found.best.counted >= front.dense_accuracy
    # a bound may take off more than there is: what is registered is a share all the same
    hard = replace(front, dense_accuracy=0.01)
    low = with_assurance(hard, networks, networks[2], digits, 0.99, max_drop=0.0)
    assert min(entry.counted for entry in low.points) == 0.0


def test_test_figures_are_those_of_each_models_own_and_threads_stay(front: Front, digits: Dataset) -> None:
    # enough of them that several are measured at a time, whatever order they end in
    many = replace(
        front, points=tuple(replace(front.points[0], number=number) for number in range(24)), best=None
    )
    networks, threads = rebuilt(many), torch.get_num_threads()
    tested = with_test(many, networks, digits)
    assert torch.get_num_threads() == threads
    images = digits.test.images.float() / 255
    with torch.no_grad():
        wanted = [arsvd.evaluate(network, images, digits.test.labels) for network in networks]
    got = [entry.test for entry in tested.points]
    assert all(test is not None for test in got)
    assert [test.accuracy for test in got if test] == [metrics.accuracy for metrics in wanted]
    assert [test.loss for test in got if test] == pytest.approx(
        [metrics.loss for metrics in wanted], rel=1e-6
    )
    assert len({test.loss for test in got if test}) == 24


def test_a_model_that_cannot_be_measured_is_not_passed_over(front: Front, digits: Dataset) -> None:
    networks = [*rebuilt(front)[:2], nn.Linear(3, 3)]
    with pytest.raises(ValueError, match="does not take inputs of shape"):
        with_test(front, networks, digits)
