"""Pareto sets and hypervolume. Every objective is minimised here; negate those to be maximised."""

import bisect
from collections.abc import Sequence

import numpy as np


def non_dominated(points: Sequence[Sequence[float]]) -> list[bool]:
    """Tell which points no other point beats.

    Point a beats point b where a is no worse in every objective and better in at least one. Of equal
    points only the first is kept, so that the result holds each trade-off once.

    Args:
        points: (points, objectives), all minimised.

    Returns:
        One flag per point, in the order given.

    Raises:
        ValueError: a value is NaN, which compares false with everything and would never be dominated.
    """
    if len(points) == 0:
        return []
    values = _without_nan(points)
    order = np.lexsort(values.T[::-1])  # by the first objective, ties by the next ones; stable
    if values.shape[1] == 2:
        return _non_dominated_plane(values, order)
    keep = [False] * len(values)
    kept: list[int] = []
    for index in order:
        # In lexicographic order no later point can dominate an earlier one, so kept points stay kept.
        # <= in every objective covers equal points as well: the first one wins.
        if not kept or not bool(np.any(np.all(values[kept] <= values[index], axis=1))):
            kept.append(int(index))
            keep[int(index)] = True
    return keep


def _non_dominated_plane(values: np.ndarray, order: np.ndarray) -> list[bool]:
    keep = [False] * len(values)
    lowest = None
    for index in order:
        # strict: an equal second objective at a larger or equal first one is beaten
        if lowest is None or values[index, 1] < lowest:
            lowest = values[index, 1]
            keep[int(index)] = True
    return keep


def hypervolume(points: Sequence[Sequence[float]], reference: Sequence[float]) -> float:
    """Measure the area that points of two objectives dominate, up to a reference point.

    Args:
        points: (points, 2), both objectives minimised.
        reference: the worst corner, (2,). Points that do not lie strictly below it in both objectives add
            nothing.

    Returns:
        The area of the union of the boxes [point, reference] (Zitzler and Thiele 1998).

    Raises:
        ValueError: a value is NaN, or the points or the reference have another number of objectives.
    """
    corner = np.asarray(reference, dtype=np.float64)
    if np.isnan(corner).any():
        raise ValueError(f"the reference {list(reference)} holds NaN")
    values = _without_nan(points) if len(points) else np.empty((0, 2))
    if values.shape[1] != 2 or corner.shape != (2,):
        raise ValueError(
            f"a hypervolume has two objectives, got points with {values.shape[1]} "
            f"and a reference with {corner.size}"
        )
    right, ceiling = corner
    total = 0.0
    for first, second in values[np.lexsort(values.T[::-1])]:
        if first < right and second < ceiling:
            total += float(right - first) * float(ceiling - second)
            ceiling = second
    return total


def staircase_value(sizes: Sequence[float], values: Sequence[float], limit: float) -> float | None:
    """Return the best value among the entries whose size is at most the limit.

    Args:
        sizes: ascending sizes of a front's points.
        values: the points' values, ascending with the size as on any front.
        limit: the largest size allowed.

    Returns:
        The value of the largest point that fits, or None where none does.
    """
    position = bisect.bisect_right(sizes, limit)
    return values[position - 1] if position else None


def _without_nan(points: Sequence[Sequence[float]]) -> np.ndarray:
    values = np.asarray(points, dtype=np.float64)
    if values.ndim != 2:
        raise ValueError(f"points must be a list of equally long rows, got an array of shape {values.shape}")
    if np.isnan(values).any():
        raise ValueError(f"point {int(np.isnan(values).any(axis=1).argmax())} holds NaN")
    return values
