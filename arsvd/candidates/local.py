"""Improve a front by moving one layer's rank at a time."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from arsvd.candidates.base import Candidates, Context
from arsvd.formats import DENSE

if TYPE_CHECKING:
    from arsvd.evaluation.evaluator import Evaluator, OperatingPoint
    from arsvd.evaluation.lockstep import Steps
    from arsvd.planning import Plan

FAMILY = "local"
POINTS = 150
SEARCHED_DROP = 10  # times the allowed drop: points that lose more are not worth improving


class Local(Candidates):
    """A search that starts at the points found and changes one layer's rank at a time."""

    def steps(
        self, context: Context, dense: "OperatingPoint", points: "Sequence[OperatingPoint]"
    ) -> "Steps[list[OperatingPoint]]":
        """Search from the points of the main basis."""
        main = context.main.spectra
        own = {DENSE, *(spectrum.format for spectrum in main)}
        start = [
            point
            for point in (dense, *points)
            if point.basis in (main.basis, None) and own.issuperset(choice.format for choice in point.choices)
        ]
        floor = dense.accuracy - SEARCHED_DROP * context.max_drop
        return (yield from local_steps(context.main, start, POINTS, floor))


LOCAL = Local()


def local_search(
    evaluator: "Evaluator", points: "Iterable[OperatingPoint]", limit: int = 200, floor: float = 0.0
) -> "list[OperatingPoint]":
    """Try the neighbours of front points until nothing improves or the limit is reached.

    A neighbour has one layer's rank changed by 1, or by about a tenth. Only neighbours of points that are on
    the front at that moment are tried, each of them once.

    Args:
        evaluator: evaluator of the points' model; rank tuples that it has measured before cost nothing.
        points: points to start from, in the evaluator's basis.
        limit: largest number of rank tuples to measure.
        floor: accuracy below which a point's neighbours are not tried.

    Returns:
        The points found, without those given.
    """
    from arsvd.evaluation.lockstep import alone

    return alone(local_steps(evaluator, points, limit, floor))


def local_steps(
    evaluator: "Evaluator", points: "Iterable[OperatingPoint]", limit: int = 200, floor: float = 0.0
) -> "Steps[list[OperatingPoint]]":
    """Search as `local_search` does, in one step for the neighbours of each front."""
    from arsvd.fronts import pareto
    from arsvd.planning import plan
    from arsvd.rules import Ranks

    spectra = evaluator.spectra
    known = {point.ranks: point for point in points}
    found: list[OperatingPoint] = []
    explored: set[tuple[int | None, ...]] = set()
    while len(found) < limit:
        front = [p for p in pareto(known.values()) if p.accuracy >= floor and p.ranks not in explored]
        plans: dict[tuple[int | None, ...], Plan] = {}
        for point in front:
            explored.add(point.ranks)
            for ranks in _neighbours(point.ranks, [s.largest for s in spectra]):
                neighbour = plan(spectra, Ranks(ranks, FAMILY))
                if neighbour.ranks not in known:
                    plans.setdefault(neighbour.ranks, neighbour)
        batch = list(plans.values())[: limit - len(found)]
        if not batch:
            break
        yield [(evaluator, [neighbour.ranks for neighbour in batch])]
        measured = evaluator.points(batch)
        found += measured
        known |= {point.ranks: point for point in measured}
    return found


def _neighbours(ranks: Sequence[int | None], largest: Sequence[int]) -> Iterable[tuple[int | None, ...]]:
    for layer, rank in enumerate(ranks):
        if rank is None:
            # one step down from dense: the break-even guard makes ranks that save nothing dense again
            steps = [max(1, round(largest[layer] * share)) for share in (0.9, 0.5)]
        else:
            far = max(2, round(rank / 10))
            steps = [r for r in (rank - far, rank - 1, rank + 1, rank + far) if 1 <= r <= largest[layer]]
        for step in steps:
            yield (*ranks[:layer], step, *ranks[layer + 1 :])
