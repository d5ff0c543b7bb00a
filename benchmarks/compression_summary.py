"""What a row's models amount to. Validation makes every choice, test is read of what it chose.

A model is [parameters, validation accuracy, test accuracy, …], as the benchmark's JSON has it. Every row may
also fall back on the dense reference, which whoever compresses it has.
"""

import math
from collections.abc import Sequence
from typing import Any

from arsvd.fronts import LARGEST_RATIO

RATIOS = (5, 10, 15, 20, 30)
DROPS = (0.002, 0.005, 0.010)
_TOLERANCE = 1e-9  # accuracies are counts divided by counts

Model = Sequence[float]


def best_dense(seed: dict[str, Any]) -> dict[str, float]:
    """Return validation and test accuracy of the dense member that validation prefers."""
    found: dict[str, float] = max(seed["dense"].values(), key=lambda one: one["validation"])
    return found


def models(seed: dict[str, Any], row: str) -> list[Model]:
    """Return a row's models and the plain dense reference, by ascending size."""
    plain = seed["dense"]["plain"]
    dense = [seed["reference_params"], plain["validation"], plain["test"]]
    return sorted([*seed["rows"][row]["points"], dense], key=lambda model: model[0])


def choice(found: Sequence[Model], limit: float) -> Model | None:
    """Return the model of at most so many parameters that is best on validation, of equals the smaller."""
    fits = [model for model in found if model[0] <= limit]
    return max(fits, key=lambda model: (model[1], -model[0]), default=None)


def within(found: Sequence[Model], least: float) -> Model | None:
    """Return the smallest model of at least this validation accuracy, of equal sizes the best."""
    fits = [model for model in found if model[1] >= least - _TOLERANCE]
    return min(fits, key=lambda model: (model[0], -model[1]), default=None)


def hypervolume(found: Sequence[Model], reference: float) -> float:
    """Return the mean test accuracy of what is chosen, over ratios from 1 to 100 on a log scale.

    A ratio that no model reaches counts as 0.
    """
    sizes = sorted({model[0] for model in found if model[0] <= reference})
    total = 0.0
    for size, larger in zip(sizes, [*sizes[1:], reference], strict=True):
        low, high = (min(math.log(reference / limit), math.log(LARGEST_RATIO)) for limit in (larger, size))
        chosen = choice(found, size)
        total += 0.0 if chosen is None else (high - low) * chosen[2]
    return total / math.log(LARGEST_RATIO)


def figures(seed: dict[str, Any], row: str) -> dict[str, Any]:
    """Return a row's figures for one seed.

    Returns:
        "accuracy" by ratio: test accuracy of the choice, None where no model is that small; "within" by drop:
        the compression of the smallest model that on validation loses at most so much against the best dense
        member, and what it loses on test, None where there is none; "hypervolume".
    """
    found, reference, dense = models(seed, row), seed["reference_params"], best_dense(seed)
    chosen = {ratio: choice(found, reference / ratio) for ratio in RATIOS}
    held = {drop: within(found, dense["validation"] - drop) for drop in DROPS}
    return {
        "accuracy": {ratio: None if model is None else model[2] for ratio, model in chosen.items()},
        "within": {
            drop: None if model is None else (reference / model[0], dense["test"] - model[2])
            for drop, model in held.items()
        },
        "hypervolume": hypervolume(found, reference),
    }
