"""Ranks that are multiples of a number."""

from collections.abc import Callable

import pytest
import torch

import arsvd
from arsvd import Budget, Energy, Fixed, Ranks, Spectra
from arsvd.rules import RankRule

SHAPES = [(40, 60), (24, 40), (10, 24)]


@pytest.fixture
def falling(made_up: Callable[..., Spectra]) -> Spectra:
    """Break-even at ranks 24, 15 and 7 (last ranks that are smaller: 23 or 24, 14 or 15, 7)."""
    energy = [[0.8**i for i in range(min(shape))] for shape in SHAPES]
    return made_up(SHAPES, energy, other_params=5)


# name: the ranks asked for, the multiple, the ranks that come of it
CASES: dict[str, tuple[tuple[int | None, ...], int, tuple[int | None, ...]]] = {
    "no rounding": ((5, 3, 2), 1, (5, 3, 2)),
    "up": ((5, 3, 2), 4, (8, 4, 4)),
    "a multiple stays": ((8, 4, 4), 4, (8, 4, 4)),
    "down where up is past break-even": ((17, 13, 5), 16, (16, None, None)),
    "down, several layers": ((22, 13, 7), 6, (18, 12, 6)),
    "dense stays dense": ((None, 3, None), 4, (None, 4, None)),
    "past break-even stays dense": ((39, 23, 9), 4, (None, None, None)),
    "a layer too small for the multiple": ((5, 3, 2), 12, (12, 12, None)),
}


@pytest.mark.parametrize(("asked", "multiple", "got"), CASES.values(), ids=CASES)
def test_rounding(
    falling: Spectra, asked: tuple[int | None, ...], multiple: int, got: tuple[int | None, ...]
) -> None:
    plan = arsvd.plan(falling, Ranks(asked), multiple)
    assert plan.ranks == got
    assert plan.params == falling.cost(got).numbers


@pytest.mark.parametrize("multiple", [1, 2, 3, 8])
@pytest.mark.parametrize("rule", [Energy(0.5), Energy(0.9), Energy(0.99), Fixed(0.2), Fixed(0.5)], ids=str)
def test_the_nearest_multiple_that_is_worthwhile(falling: Spectra, rule: RankRule, multiple: int) -> None:
    """Against a search over all multiples, up first."""
    plan, plain = arsvd.plan(falling, rule, multiple), arsvd.plan(falling, rule)
    for spectrum, asked, rank in zip(falling, plain.ranks, plan.ranks, strict=True):
        useful = [r for r in range(1, spectrum.largest + 1) if r % multiple == 0 and spectrum.worthwhile(r)]
        above = [r for r in useful if asked is not None and r >= asked]
        below = [r for r in useful if asked is not None and r < asked]
        assert rank == (min(above) if above else max(below, default=None))


@pytest.mark.parametrize("multiple", [2, 4, 5])
@pytest.mark.parametrize("count", ["params", "macs"])
def test_a_budget_holds_and_is_the_best_of_all_multiples(
    falling: Spectra,
    every_tuple: Callable[[Spectra], list[tuple[int | None, ...]]],
    count: str,
    multiple: int,
) -> None:
    tuples = [t for t in every_tuple(falling) if all(r is None or r % multiple == 0 for r in t)]

    def size(ranks: tuple[int | None, ...]) -> int:
        cost = falling.cost(ranks)
        return cost.numbers if count == "params" else cost.macs

    sizes = sorted({size(t) for t in tuples})
    for limit in (sizes[0], *sizes[:: len(sizes) // 5]):
        plan = arsvd.plan(falling, Budget(**{count: limit}), multiple)
        assert plan.ranks in tuples
        assert getattr(plan, count) <= limit
        # hull and greedy fill: near the optimum, never better
        best = min(_error(falling, t) for t in tuples if size(t) <= limit)
        assert best - 1e-12 <= _error(falling, plan.ranks) <= best + 0.1
    with pytest.raises(ValueError, match=f"the smallest that is reachable has {sizes[0]}"):
        arsvd.plan(falling, Budget(**{count: sizes[0] - 1}), multiple)


def _error(spectra: Spectra, ranks: tuple[int | None, ...]) -> float:
    return sum(1 - s.kept(r) for s, r in zip(spectra, ranks, strict=True))


@pytest.mark.parametrize("multiple", [0, -8, 1.5])
def test_a_multiple_below_one_or_not_whole(falling: Spectra, multiple: int) -> None:
    with pytest.raises(ValueError, match=f"whole number from 1 on, got {multiple}"):
        arsvd.plan(falling, Energy(0.9), multiple)


@pytest.mark.parametrize("rule", [Energy(0.9), Budget(params=4000)], ids=str)
def test_a_multiple_above_every_layer(falling: Spectra, rule: RankRule) -> None:
    with pytest.raises(ValueError, match="the largest is 'layer0' with a full rank of 40"):
        arsvd.plan(falling, rule, 41)


def test_a_front_of_multiples() -> None:
    model, x = arsvd.MLP([20, 24, 16, 6]), torch.randn(200, 20)
    with torch.no_grad():
        labels = model(x).argmax(1)
    spectra = arsvd.spectra(model, x)
    points = arsvd.front(model, spectra, (x, labels), multiple=4)
    assert len(points) > 2
    assert all(rank is None or rank % 4 == 0 for point in points for rank in point.ranks)
