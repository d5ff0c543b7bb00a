"""Budgets weighted by how much the validation loss rises when one layer alone is truncated."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from arsvd.candidates.base import Candidates, Context
from arsvd.candidates.budget import budgets
from arsvd.rules.base import smallest_rank

if TYPE_CHECKING:
    from arsvd.evaluation.evaluator import Evaluator, OperatingPoint
    from arsvd.evaluation.lockstep import Steps

KEPT = (0.8, 0.9, 0.95)


class Sensitivity(Candidates):
    """Budgets that are divided among the layers by their measured effect on the loss."""

    def steps(
        self, context: Context, dense: "OperatingPoint", points: "Sequence[OperatingPoint]"
    ) -> "Steps[list[OperatingPoint]]":
        """Measure the layers, then the budgets."""
        weights = yield from sensitivity_steps(context.main)
        plans = budgets(context.main.spectra, weights)
        yield [(context.main, [chosen.ranks for chosen in plans])]
        return context.main.points(plans)


SENSITIVITY = Sensitivity()


def sensitivity(evaluator: "Evaluator") -> tuple[float, ...]:
    """Measure a weight per layer for the budget rule: loss added per share of energy dropped.

    Each layer is truncated alone, at the ranks that keep 80, 90 and 95 % of its energy; its weight is the
    mean of loss increase divided by dropped share. The weights turn the rule's sum of dropped shares into an
    estimate of the loss.

    Args:
        evaluator: evaluator of the model, on validation data.

    Returns:
        Positive weights (layers,) that sum to the number of layers; ones where no layer matters.
    """
    from arsvd.evaluation.lockstep import alone

    return alone(sensitivity_steps(evaluator))


def sensitivity_steps(evaluator: "Evaluator") -> "Steps[tuple[float, ...]]":
    """Measure as `sensitivity` does, in one step."""
    spectra = evaluator.spectra
    dense = spectra.dense
    trials = []
    for layer, spectrum in enumerate(spectra):
        for kept in KEPT:
            rank = smallest_rank(spectrum.energy, kept)
            if spectrum.worthwhile(rank) is not None and spectrum.kept(rank) < 1:
                trials.append((layer, 1 - spectrum.kept(rank), (*dense[:layer], rank, *dense[layer + 1 :])))
    wanted = [dense, *(ranks for _, _, ranks in trials)]
    yield [(evaluator, wanted)]
    measured = evaluator.metrics(wanted)
    rises: list[list[float]] = [[] for _ in spectra]
    for layer, dropped, ranks in trials:
        rises[layer].append(max(0.0, measured[ranks].loss - measured[dense].loss) / dropped)
    weights = [sum(found) / len(found) if found else 0.0 for found in rises]
    mean = sum(weights) / len(weights)
    if mean == 0:
        return (1.0,) * len(weights)
    # no layer is free: a weight of zero would let the budget empty a layer that just had no effect here
    floor = mean / 100
    weights = [max(weight, floor) for weight in weights]
    return tuple(weight * len(weights) / sum(weights) for weight in weights)
