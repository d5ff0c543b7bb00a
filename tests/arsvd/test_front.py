"""Fronts against the enumeration of all rank tuples, and the one number that measures them."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import arsvd
from arsvd import Budget, Energy, Fixed, OperatingPoint, Ranks, Spectra, hypervolume
from arsvd.evaluation.evaluator import Evaluator
from arsvd.fronts import budget_grid, energy_grid, fixed_grid, front_hypervolume, thresholds

RankTuple = tuple[int | None, ...]


@pytest.fixture(scope="module", params=["weight", "activation", "loss"])
def spectra(request: pytest.FixtureRequest, trained: nn.Module, calibration: Tensor) -> Spectra:
    return arsvd.spectra(trained, None if request.param == "weight" else calibration, basis=request.param)


@pytest.fixture
def enumerated(
    trained: nn.Module,
    spectra: Spectra,
    validation: tuple[Tensor, Tensor],
    every_tuple: Callable[[Spectra], list[RankTuple]],
) -> dict[RankTuple, tuple[int, float]]:
    """(params, accuracy) of every rank tuple there is."""
    tuples = every_tuple(spectra)
    metrics = Evaluator(trained, spectra, *validation).metrics(tuples)
    return {ranks: (spectra.cost(ranks).numbers, metrics[ranks].accuracy) for ranks in tuples}


def beaten(point: tuple[int, float], others: list[tuple[int, float]]) -> bool:
    params, accuracy = point
    return any(p <= params and a >= accuracy and (p, a) != point for p, a in others)


def size_and_accuracy(points: tuple[OperatingPoint, ...]) -> list[tuple[int, float]]:
    return [(point.params, point.accuracy) for point in points]


class TestFront:
    def test_is_non_dominated_and_complete(
        self,
        trained: nn.Module,
        spectra: Spectra,
        validation: tuple[Tensor, Tensor],
        enumerated: dict[RankTuple, tuple[int, float]],
    ) -> None:
        assert len(enumerated) > 200
        everything = list(enumerated.values())
        expected = sorted({point for point in everything if not beaten(point, everything)})
        points = arsvd.front(trained, spectra, validation, [Ranks(ranks) for ranks in enumerated])
        assert size_and_accuracy(points) == expected
        assert len(points) > 5
        for point in points:
            assert enumerated[point.ranks] == (point.params, point.accuracy)

    def test_the_default_rules_stay_below_the_complete_front_and_come_close(
        self,
        trained: nn.Module,
        spectra: Spectra,
        validation: tuple[Tensor, Tensor],
        enumerated: dict[RankTuple, tuple[int, float]],
    ) -> None:
        points = arsvd.front(trained, spectra, validation)
        everything = list(enumerated.values())
        for point in size_and_accuracy(points):
            assert point in everything
            assert not beaten(point, size_and_accuracy(points))
        reference = spectra.cost(spectra.dense).numbers
        ours = front_hypervolume(size_and_accuracy(points), reference)
        best = front_hypervolume(everything, reference)
        assert 0.9 * best < ours <= best

    def test_ascends_and_ends_at_the_most_accurate_point(
        self, trained: nn.Module, spectra: Spectra, validation: tuple[Tensor, Tensor]
    ) -> None:
        points = arsvd.front(trained, spectra, validation)
        for less, more in itertools.pairwise(points):
            assert less.params < more.params
            assert less.accuracy < more.accuracy
        assert points[-1].accuracy >= arsvd.evaluate(trained, *validation).accuracy

    def test_the_dense_model_always_competes(
        self, trained: nn.Module, spectra: Spectra, validation: tuple[Tensor, Tensor]
    ) -> None:
        (dense,) = arsvd.front(trained, spectra, validation, [])
        assert (dense.family, dense.ranks) == ("dense", spectra.dense)
        assert dense.params == sum(p.numel() for p in trained.parameters())

    def test_points_name_the_rule_that_found_them(
        self, trained: nn.Module, spectra: Spectra, validation: tuple[Tensor, Tensor]
    ) -> None:
        rules = [Energy(0.6), Fixed(0.3), Budget(params=500)]
        points = arsvd.front(trained, spectra, validation, rules)
        assert {p.family for p in points} <= {"energy", "fixed", "budget", "dense"}
        for point in points:
            if point.family != "dense":
                rule = {"energy": rules[0], "fixed": rules[1], "budget": rules[2]}[point.family]
                assert point.ranks == arsvd.plan(spectra, rule).ranks
                assert (point.threshold, point.basis) == (rule.threshold, spectra.basis)

    def test_labels_outside_are_refused(self, trained: nn.Module, validation: tuple[Tensor, Tensor]) -> None:
        inputs, labels = validation
        with pytest.raises(ValueError, match=r"labels must be in 0 … 9, got 1 … 10"):
            arsvd.front(trained, arsvd.spectra(trained), (inputs, labels + 1))

    def test_a_model_that_cannot_shrink(self) -> None:
        model = arsvd.MLP([8, 1, 3])
        points = arsvd.front(
            model, arsvd.spectra(model), (torch.randn(9, 8), torch.zeros(9, dtype=torch.int64))
        )
        assert [point.family for point in points] == ["dense"]


class TestGrids:
    @pytest.mark.parametrize("points", [2, 3, 48])
    def test_thresholds_are_even_in_minus_log_one_minus_tau(self, points: int) -> None:
        spaced = thresholds(0.3, 0.999, points)
        steps = np.diff(-np.log1p(-np.array(spaced)))
        assert len(spaced) == points
        assert spaced[0] == pytest.approx(0.3)
        assert spaced[-1] == pytest.approx(0.999)
        assert np.ptp(steps) < 1e-9

    def test_energy_grids_follow_the_basis(self, trained: nn.Module, calibration: Tensor) -> None:
        ranges = []
        for spectra in (arsvd.spectra(trained), arsvd.spectra(trained, calibration)):
            grid = [rule.threshold for rule in energy_grid(spectra)]
            ranges.append((len(grid), round(grid[0], 4), round(grid[-1], 4)))
        assert ranges == [(48, 0.3, 0.999), (48, 0.9, 0.9999)]

    def test_fixed_grid_reaches_all(self) -> None:
        rules = [rule for rule in fixed_grid(12) if isinstance(rule, arsvd.Fixed)]
        for output in (True, False):
            fractions = [rule.fraction for rule in rules if rule.output is output]
            assert (len(fractions), fractions[0], fractions[-1]) == (6, pytest.approx(0.005), 1.0)
        assert len(fixed_grid(7)) == 7

    def test_budget_grid_runs_from_the_smallest_model_to_the_dense_one(self, spectra: Spectra) -> None:
        plans = [arsvd.plan(spectra, rule) for rule in budget_grid(spectra, 20)]
        assert len(plans) == 20
        assert plans[0].params == spectra.cost([s.worthwhile(1) for s in spectra]).numbers
        assert plans[-1].params <= spectra.cost(spectra.dense).numbers
        assert sum(layer.kept_energy for layer in plans[-1].layers) == pytest.approx(len(spectra))


def mean_best_accuracy(points: list[tuple[int, float]], reference: int, steps: int = 200_000) -> float:
    """Average the best accuracy at each compression ratio over log ratios from 1 to 100."""
    ratios = np.exp((np.arange(steps) + 0.5) / steps * math.log(100))
    best = np.zeros(steps)
    for params, accuracy in points:
        best = np.where(reference / params >= ratios, np.maximum(best, accuracy), best)
    return float(best.mean())


class TestFrontHypervolume:
    @pytest.mark.parametrize(
        "points",
        [
            pytest.param([(500, 0.9)], id="one point"),
            pytest.param([(500, 0.9), (100, 0.8), (50, 0.85), (20, 0.2)], id="one of them beaten"),
            pytest.param([(1000, 0.99), (2000, 1.0), (300, 0.5)], id="the reference and larger add nothing"),
            pytest.param([(5, 0.5), (100, 0.9)], id="more than 100 times smaller counts as 100"),
            pytest.param([], id="none"),
            pytest.param([(1000, 0.99)], id="the reference alone"),
        ],
    )
    def test_equals_its_definition(self, points: list[tuple[int, float]]) -> None:
        expected = mean_best_accuracy(points, 1000)
        assert front_hypervolume(points, 1000) == pytest.approx(expected, abs=1e-4)

    def test_a_perfect_tiny_model_has_one(self) -> None:
        assert front_hypervolume([(10, 1.0)], 1000) == pytest.approx(1.0)

    def test_equals_a_hypervolume_in_log_ratio_and_accuracy(self) -> None:
        points = [(500, 0.9), (100, 0.8), (50, 0.3)]
        boxes = [(-math.log(1000 / p), -a) for p, a in points]
        expected = hypervolume(boxes, (0.0, 0.0)) / math.log(100)
        assert front_hypervolume(points, 1000) == pytest.approx(expected)


def test_pareto_keeps_one_of_equal_points_and_sorts() -> None:
    def point(params: int, accuracy: float, family: str) -> OperatingPoint:
        return OperatingPoint((1,), params, params, accuracy, accuracy, 0.5, family, "weight", None)

    points = [
        point(30, 0.9, "c"), point(10, 0.5, "a"), point(10, 0.5, "again"), point(20, 0.4, "beaten"),
        point(20, 0.9, "b"), point(10, 0.3, "below"),
    ]  # fmt: skip
    assert [p.family for p in arsvd.pareto(points)] == ["a", "b"]
    assert arsvd.pareto([]) == ()
