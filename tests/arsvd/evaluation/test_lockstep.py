"""Searches in lock-step find what each finds alone; one that fails is no other's matter."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import arsvd
from arsvd import MLP, OperatingPoint
from arsvd.candidates.local import local_search, local_steps
from arsvd.candidates.sensitivity import sensitivity, sensitivity_steps
from arsvd.data import Dataset
from arsvd.evaluation import lockstep
from arsvd.evaluation.evaluator import Evaluator, RankTuple
from arsvd.evaluation.lockstep import Steps, Wanted, alone, together
from arsvd.fronts import budget_grid
from arsvd.modes import torch_threads
from arsvd.training import Hyperparameters, Pack, dense_architecture, train

Fresh = Callable[[], list[Evaluator]]


@pytest.fixture(scope="module")
def members(digits: Dataset) -> list[MLP]:
    pack = Pack.from_seeds([dense_architecture([64, width, 8, 10]) for width in (12, 16, 12)], range(3))
    settings = [Hyperparameters(lr=2e-2, seed=seed) for seed in range(3)]
    with torch_threads(1):  # this fixture is made before the one that sees to it in each test
        train(pack, digits, settings, epochs=6, batch_size=64)
    return [pack.model(member, merge=True) for member in range(3)]


@pytest.fixture
def evaluators(members: list[MLP], calibration: Tensor, validation: tuple[Tensor, Tensor]) -> Fresh:
    found = [arsvd.spectra(model, calibration) for model in members]
    return lambda: [Evaluator(model, s, *validation) for model, s in zip(members, found, strict=True)]


def unexpected(error: Exception) -> None:
    raise error


def start(evaluator: Evaluator) -> list[OperatingPoint]:
    spectra = evaluator.spectra
    return evaluator.points([arsvd.plan(spectra, rule) for rule in budget_grid(spectra, 6)])


def test_sensitivities_are_those_of_each_alone(evaluators: Fresh) -> None:
    expected = [sensitivity(evaluator) for evaluator in evaluators()]
    found = together([sensitivity_steps(evaluator) for evaluator in evaluators()], unexpected)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)


def test_local_searches_find_the_points_of_each_alone(
    evaluators: Fresh, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [local_search(evaluator, start(evaluator), 40) for evaluator in evaluators()]
    ours = evaluators()
    starts = [start(evaluator) for evaluator in ours]

    def walked(*_: object) -> None:
        raise AssertionError("measured alone")

    monkeypatch.setattr("arsvd.evaluation.evaluator._walk", walked)
    found = together([local_steps(e, s, 40) for e, s in zip(ours, starts, strict=True)], unexpected)
    for points, theirs in zip(found, expected, strict=True):
        assert not isinstance(points, Exception)
        assert [p.ranks for p in points] == [p.ranks for p in theirs]
        assert [p.accuracy for p in points] == [p.accuracy for p in theirs]
        assert [p.loss for p in points] == pytest.approx([p.loss for p in theirs], rel=1e-5)


def searching(evaluator: Evaluator, ranks: list[RankTuple], error: Exception | None = None) -> Steps[float]:
    """Ask for one tuple a step and add up what it gives."""
    total = 0.0
    for key in ranks:
        yield [(evaluator, [key])]
        total += evaluator.metrics([key])[key].accuracy
    if error is not None:
        raise error
    return total


RANKS: list[RankTuple] = [(1, 1, 1), (2, None, 1), (3, 2, None)]


def test_a_failing_search_does_not_affect_the_others(evaluators: Fresh) -> None:
    expected = [alone(searching(evaluator, RANKS)) for evaluator in evaluators()]
    error = ValueError("no such rank")
    first, second, third = evaluators()
    searches = [searching(first, RANKS), searching(second, RANKS[:1], error), searching(third, RANKS[:2])]
    found = together(searches, unexpected)
    assert found[0] == expected[0]
    assert found[1] is error
    assert isinstance(found[2], float)
    assert third.evaluated == 2


def test_searches_continue_alone_where_measuring_together_fails(
    evaluators: Fresh, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    real = lockstep.measure_together

    def second_fails(wanted: Wanted) -> None:
        calls.append(len(wanted))
        if len(calls) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        real(wanted)

    monkeypatch.setattr(lockstep, "measure_together", second_fails)
    expected = [alone(searching(evaluator, RANKS)) for evaluator in evaluators()]
    told: list[Exception] = []
    assert together([searching(e, RANKS) for e in evaluators()], told.append) == expected
    assert calls == [3, 3]
    assert [str(error) for error in told] == ["CUDA out of memory"]


def test_a_fatal_error_ends_all_searches(evaluators: Fresh, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: Wanted) -> None:
        raise RuntimeError("the device is broken")

    monkeypatch.setattr(lockstep, "measure_together", fails)
    with pytest.raises(RuntimeError, match="the device is broken"):
        together([searching(e, RANKS) for e in evaluators()], unexpected)


def test_one_search_is_run_alone_and_none_gives_nothing(
    evaluators: Fresh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lockstep, "measure_together", unexpected)
    (first, *_) = evaluators()
    (found,) = together([searching(first, RANKS)], unexpected)
    assert found == alone(searching(first, RANKS))
    assert together([], unexpected) == []
