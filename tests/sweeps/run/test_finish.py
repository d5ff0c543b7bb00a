"""The figures of a final front: whose dense model is compared with, and what is measured beside it."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

import arsvd
from arsvd import OperatingPoint
from arsvd.data import Dataset
from arsvd.evaluation.confidence import drop_bound
from sweeps.ledger.records import Front, FrontPoint
from sweeps.run.finish import with_assurance, with_dense_tests, with_latency, with_test


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


def test_the_networks_that_a_front_is_compared_with_are_tested_too(front: Front, digits: Dataset) -> None:
    entries = {key: FrontPoint(key, 0, front.points[0].point) for key in ("plain", "wide")}
    networks = dict(zip(entries, rebuilt(front), strict=False))
    whole = replace(front, dense=entries["wide"], reference=entries["plain"])
    tested = with_dense_tests(whole, networks.__getitem__, digits)
    images = digits.test.images.float() / 255
    for key, entry in (("plain", tested.reference), ("wide", tested.dense)):
        assert entry is not None
        assert entry.test is not None
        assert entry.test.accuracy == arsvd.evaluate(networks[key], images, digits.test.labels).accuracy
    alone = with_dense_tests(replace(whole, reference=None), networks.__getitem__, digits)
    assert (alone.reference, alone.dense) == (None, tested.dense)


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


def answering(front: Front, digits: Dataset, wrong: list[int]) -> tuple[list[nn.Module], nn.Module]:
    """Models that answer the confirmation images right but for so many, and a dense one without fault."""

    class Answers(nn.Module):
        def __init__(self, mistakes: int) -> None:
            super().__init__()
            self.mistakes = mistakes

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            logits = nn.functional.one_hot(digits.test.labels[: len(images)], 10).float()
            logits[: self.mistakes] = logits[: self.mistakes].roll(1, 1)
            return logits

    return [Answers(count) for count in wrong], Answers(0)


def test_a_model_is_assured_where_every_larger_one_is_on_images_that_chose_nothing(
    front: Front, digits: Dataset
) -> None:
    fresh = replace(digits, confirmation=replace(digits.test))
    networks, dense = answering(front, digits, [4, 30, 0])
    found = with_assurance(front, networks, dense, fresh, 0.95, max_drop=0.05, measured=10_000)
    images = len(digits.test)
    bounds = [
        drop_bound(lost, 0, images, 0.95) for lost in (30, 30, 0)
    ]  # the smallest fails with the middle one
    assert [entry.assured for entry in found.points] == pytest.approx(
        [max(0.0, front.dense_accuracy - bound) for bound in bounds]
    )
    assert (found.confidence, found.confirmation_images) == (0.95, images)
    assert found.best is found.points[2]
    assert Front.from_dict(found.to_dict()) == found


def test_the_dense_model_itself_loses_nothing_and_stops_no_other(front: Front, digits: Dataset) -> None:
    whole = front.points[2].point
    itself = replace(front.points[2], point=replace(whole, family="dense", basis=None))
    shown = replace(front, points=(*front.points[:2], itself), dense=itself, best=None)
    networks, dense = answering(front, digits, [0, 40, 0])
    fresh = replace(digits, confirmation=digits.test)
    found = with_assurance(shown, networks, dense, fresh, 0.95, max_drop=0.0, measured=1)
    assert found.points[2].assured == front.dense_accuracy
    assert found.best is found.points[2]


def test_without_confirmation_images_the_confidence_is_shared_among_all_measured_points(
    front: Front, digits: Dataset
) -> None:
    networks = rebuilt(front)
    found = with_assurance(front, networks, networks[2], digits, 0.9, max_drop=0.0, measured=500)
    assert (found.confidence, found.confirmation_images) == (0.9, 0)
    bound = drop_bound(0, 0, len(digits.validation), 1 - 0.1 / 500)
    assert found.points[2].assured == pytest.approx(front.dense_accuracy - bound)
    # a bound may take off more than there is: what is registered is a share all the same
    hard = replace(front, dense_accuracy=0.01)
    low = with_assurance(hard, networks, networks[2], digits, 0.99, max_drop=0.0, measured=500)
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


def test_a_model_that_cannot_be_measured_is_not_skipped(front: Front, digits: Dataset) -> None:
    networks = [*rebuilt(front)[:2], nn.Linear(3, 3)]
    with pytest.raises(ValueError, match="does not take inputs of shape"):
        with_test(front, networks, digits)
