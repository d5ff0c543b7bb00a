"""The sizes at which a member is refitted or fine-tuned."""

import math
from collections.abc import Iterable

import numpy as np

from arsvd import Budget, OperatingPoint, Plan, Spectra, plan

SPAN = 5.0  # from the size where truncation begins to cost accuracy down to a fifth of it


def spread_plans(
    spectra: Spectra, front: Iterable[OperatingPoint], dense: OperatingPoint, count: int, max_drop: float
) -> list[Plan]:
    """Choose budgets evenly in log, downwards from the smallest point that loses next to nothing.

    Args:
        spectra: spectra of the member.
        front: non-dominated points of the member so far.
        dense: point of the dense member.
        count: largest number of plans.
        max_drop: drop of accuracy that the best point may have; half of it counts as next to nothing.

    Returns:
        Plans with distinct ranks that compress at least one layer, by ascending size.
    """
    floor = dense.accuracy - max_drop / 2
    smallest = spectra.cost([s.worthwhile(1) for s in spectra]).numbers
    level = (p.cost.numbers for p in front if p.accuracy >= floor)
    high = max(smallest, min(level, default=dense.cost.numbers))
    low = max(smallest, high / SPAN)
    budgets = [Budget(params=math.ceil(size)) for size in np.geomspace(low, high, count)]
    plans = {chosen.ranks: chosen for chosen in (plan(spectra, budget) for budget in budgets)}
    return [chosen for chosen in plans.values() if any(rank is not None for rank in chosen.ranks)]
