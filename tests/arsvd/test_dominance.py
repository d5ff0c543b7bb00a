"""Pareto sets and hypervolume against their definitions."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arsvd import hypervolume, non_dominated
from arsvd.dominance import staircase_value

SIDE = 5  # objectives are whole numbers from 0 to 5: ties and duplicates are then common


@st.composite
def clouds(draw: st.DrawFn, least: int = 1, most: int = 4) -> list[tuple[int, ...]]:
    objectives = draw(st.integers(least, most))
    point = st.tuples(*[st.integers(0, SIDE)] * objectives)
    return draw(st.lists(point, min_size=1, max_size=12))


def beats(a: Sequence[float], b: Sequence[float]) -> bool:
    return all(x <= y for x, y in zip(a, b, strict=True)) and any(x < y for x, y in zip(a, b, strict=True))


def kept_by_definition(points: Sequence[Sequence[float]]) -> list[bool]:
    return [
        not any(beats(other, point) for other in points) and tuple(point) not in map(tuple, points[:index])
        for index, point in enumerate(points)
    ]


def cells_dominated(points: Sequence[Sequence[int]], corner: Sequence[int]) -> int:
    """Count the unit cells of the grid that lie in some box [point, corner]."""
    cells = itertools.product(*(range(edge) for edge in corner))
    return sum(any(all(x <= c for x, c in zip(p, cell, strict=True)) for p in points) for cell in cells)


def volume_by_inclusion_exclusion(points: np.ndarray, corner: np.ndarray) -> float:
    total = 0.0
    for size in range(1, len(points) + 1):
        for chosen in itertools.combinations(points, size):
            sides = np.clip(corner - np.max(chosen, axis=0), 0, None)
            total += (-1) ** (size + 1) * float(np.prod(sides))
    return total


class TestNonDominated:
    @given(clouds())
    @settings(deadline=None, max_examples=300, derandomize=True)
    def test_equals_the_definition(self, points: list[tuple[int, ...]]) -> None:
        assert non_dominated(points) == kept_by_definition(points)

    @pytest.mark.parametrize(
        ("points", "kept"),
        [
            pytest.param([], [], id="no points"),
            pytest.param([(1, 1)], [True], id="one point"),
            pytest.param([(1, 1), (1, 1)], [True, False], id="the first of equal points"),
            pytest.param([(1, 2), (1, 1)], [False, True], id="tie in the first objective"),
            pytest.param([(2, 1), (1, 1)], [False, True], id="tie in the second objective"),
            pytest.param([(2, 1), (1, 2)], [True, True], id="a trade"),
            pytest.param([(1, np.inf)], [True], id="one infinite point"),
            pytest.param([(2, np.inf), (1, np.inf), (3, 0)], [False, True, True], id="infinite objectives"),
            pytest.param([(1, 1, np.inf), (1, 1, 0)], [False, True], id="three objectives"),
        ],
    )
    def test_cases(self, points: list[tuple[float, ...]], kept: list[bool]) -> None:
        assert non_dominated(points) == kept

    def test_refuses_nan_and_says_where(self) -> None:
        with pytest.raises(ValueError, match="point 1 holds NaN"):
            non_dominated([(1.0, 2.0), (float("nan"), 0.0)])

    def test_refuses_a_flat_list(self) -> None:
        with pytest.raises(ValueError, match=r"equally long rows, got an array of shape \(2,\)"):
            non_dominated([1.0, 2.0])  # type: ignore[list-item]


class TestHypervolume:
    @given(clouds(2, 2))
    @settings(deadline=None, max_examples=150, derandomize=True)
    def test_counts_grid_cells(self, points: list[tuple[int, ...]]) -> None:
        corner = [SIDE - 1] * len(points[0])  # points on the corner and behind it are among them
        assert hypervolume(points, corner) == cells_dominated(points, corner)

    @pytest.mark.parametrize("count", [1, 2, 5, 8])
    def test_equals_inclusion_and_exclusion(self, count: int) -> None:
        random = np.random.default_rng(count)
        for _ in range(4):
            points, corner = random.uniform(-1, 1, (count, 2)), random.uniform(0, 1, 2)
            expected = volume_by_inclusion_exclusion(points, corner)
            assert hypervolume(points.tolist(), corner.tolist()) == pytest.approx(expected, abs=1e-12)

    @given(clouds(2, 2))
    @settings(deadline=None, max_examples=100, derandomize=True)
    def test_only_the_front_counts_and_order_does_not(self, points: list[tuple[int, ...]]) -> None:
        corner = [SIDE] * len(points[0])
        front = [point for point, kept in zip(points, non_dominated(points), strict=True) if kept]
        assert hypervolume(points, corner) == hypervolume(front[::-1], corner)

    @pytest.mark.parametrize(
        ("points", "volume"),
        [
            pytest.param([], 0.0, id="no points"),
            pytest.param([(1, 1)], 0.0, id="on the corner"),
            pytest.param([(0, 1)], 0.0, id="on an edge"),
            pytest.param([(2, -5)], 0.0, id="behind it in one objective"),
            pytest.param([(0, 0), (0, 0)], 1.0, id="duplicates"),
            pytest.param([(0, 0.5), (0.5, 0)], 0.75, id="an overlap"),
        ],
    )
    def test_cases(self, points: list[tuple[float, float]], volume: float) -> None:
        assert hypervolume(points, (1, 1)) == volume

    @pytest.mark.parametrize(
        ("points", "corner", "message"),
        [
            pytest.param([(1.0, float("nan"))], (2, 2), "point 0 holds NaN", id="a NaN point"),
            pytest.param([(1.0, 1.0)], (2, float("nan")), "the reference .* holds NaN", id="a NaN reference"),
            pytest.param([(1, 1, 1)], (2, 2), "points with 3 and a reference with 2", id="points"),
            pytest.param([(1, 1)], (2, 2, 2), "points with 2 and a reference with 3", id="corner"),
            pytest.param([], (2,), "a reference with 1", id="no points"),
        ],
    )
    def test_refuses(self, points: list[tuple[float, ...]], corner: tuple[float, ...], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            hypervolume(points, corner)


@pytest.mark.parametrize(
    ("limit", "value"),
    [(9, None), (10, 0.5), (19.5, 0.5), (20, 0.7), (1e9, 0.9)],
)
def test_staircase_value(limit: float, value: float | None) -> None:
    assert staircase_value([10, 20, 30], [0.5, 0.7, 0.9], limit) == value
