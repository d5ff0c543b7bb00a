"""The front of one trained model: the operating points that no other point beats."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn

from arsvd.dominance import hypervolume, non_dominated
from arsvd.evaluation.evaluator import Evaluator, OperatingPoint
from arsvd.planning import plan, rounded
from arsvd.rules import Budget, Energy, Fixed, RankRule, Ranks
from arsvd.statistics import BASES
from arsvd.statistics.spectrum import Spectra

LARGEST_RATIO = 100.0


def thresholds(low: float, high: float, points: int) -> list[float]:
    """Space energy thresholds tau uniformly in -log(1 - tau), since that is where the ranks change.

    Args:
        low: smallest threshold, in (0, 1).
        high: largest threshold, in (low, 1).
        points: number of thresholds, at least 1.
    """
    dropped = np.geomspace(1.0 - low, 1.0 - high, points)
    return [float(1.0 - share) for share in dropped]


def energy_grid(spectra: Spectra, points: int = 48) -> list[RankRule]:
    """Make energy rules with one global threshold each, over the range that the basis needs."""
    return [Energy(threshold) for threshold in thresholds(*BASES[spectra.basis].energy_range, points)]


def fixed_grid(points: int = 48) -> list[RankRule]:
    """Make fixed-rank rules with fractions from 1/200 to 1, spaced evenly in log.

    Args:
        points: number of rules. They come in pairs of one fraction, of which the second keeps the output
            layer dense.
    """
    fractions = np.geomspace(0.005, 1.0, (points + 1) // 2)
    rules: list[RankRule] = [Fixed(float(share), output) for share in fractions for output in (True, False)]
    return rules[:points]


def budget_grid(
    spectra: Spectra, points: int = 48, weights: tuple[float, ...] | None = None, multiple: int = 1
) -> list[RankRule]:
    """Make parameter budgets from the smallest model that ranks allow up to the dense one, evenly in log."""
    smallest = spectra.cost([rounded(s, 1, multiple) for s in spectra]).numbers
    sizes = np.geomspace(smallest, max(smallest, spectra.cost(spectra.dense).numbers), points)
    family = "budget" if weights is None else "sensitivity"
    return [Budget(params=math.ceil(size), weights=weights, family=family) for size in sizes]


def pareto(points: Iterable[OperatingPoint]) -> tuple[OperatingPoint, ...]:
    """Keep the points that no other point beats in both accuracy and parameters, by ascending size."""
    listed = sorted(points, key=lambda point: (point.cost.numbers, -point.accuracy))
    keep = non_dominated([(point.cost.numbers, -point.accuracy) for point in listed])
    return tuple(point for point, kept in zip(listed, keep, strict=True) if kept)


def front_hypervolume(points: Iterable[tuple[int, float]], reference_params: int) -> float:
    """Measure a front: the mean, over compression ratios from 1 to 100, of the best accuracy there.

    This is the hypervolume of (log ratio, accuracy) down to the corner (ratio 1, accuracy 0), with ratios
    counted up to 100 and the ratio axis scaled to [0, 1]: 1.0 would be a perfect model 100 times smaller
    than the reference. A ratio that no point reaches counts as accuracy 0.

    Args:
        points: pairs of (parameters, accuracy), one per point.
        reference_params: count of numbers stored by the reference model.

    Returns:
        A number in [0, 1].
    """
    span = math.log(LARGEST_RATIO)
    boxes = [
        (-min(1.0, math.log(reference_params / params) / span), -accuracy)
        for params, accuracy in points
        if params < reference_params
    ]
    return hypervolume(boxes, (0.0, 0.0))


def front(
    model: nn.Module,
    spectra: Spectra,
    validation: tuple[Tensor, Tensor],
    rules: Sequence[RankRule] | None = None,
    multiple: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[OperatingPoint, ...]:
    """Find the non-dominated operating points of a trained model.

    Args:
        model: model from (rows, …) to logits (rows, classes); it is not changed.
        spectra: spectra of the model.
        validation: inputs (rows, …) and labels (rows,), held out of training.
        rules: rank rules whose points compete; by default 48 global thresholds and 48 budgets. The dense
            model always competes.
        multiple: whole number of which every rank is a multiple; see `plan`.
        progress: callback for the passes done and the passes in all.

    Returns:
        Points by ascending number of parameters, and so by ascending accuracy.

    Raises:
        ValueError: the validation data are not one tensor of inputs that the model takes and one of labels
            among its classes, a rule does not apply, or a compressed model would not do what is measured.
    """
    inputs, labels = _pair(validation)
    chosen = [*energy_grid(spectra), *budget_grid(spectra, multiple=multiple)] if rules is None else rules
    plans = [plan(spectra, rule, multiple) for rule in (Ranks(spectra.dense), *chosen)]
    return pareto(Evaluator(model, spectra, inputs, labels).points(plans, progress))


def _pair(validation: Any) -> tuple[Tensor, Tensor]:
    if not isinstance(validation, tuple | list) or len(validation) != 2:
        count = f" of {len(validation)}" if isinstance(validation, tuple | list) else ""
        raise ValueError(f"validation is the pair (inputs, labels), got a {type(validation).__name__}{count}")
    inputs, labels = validation
    return inputs, labels
