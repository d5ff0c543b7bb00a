"""Budgets of parameters, from the smallest model to the dense one."""

from typing import TYPE_CHECKING

from arsvd.candidates.base import Candidates, Context

if TYPE_CHECKING:
    from arsvd.planning import Plan
    from arsvd.statistics.spectrum import Spectra

POINTS = 48


class Budgets(Candidates):
    """Budgets that are divided among the layers by energy."""

    def plans(self, context: Context, view: str) -> "list[Plan]":
        """Plan budgets that are spaced evenly in log."""
        return budgets(context.evaluators[view].spectra)


def budgets(spectra: "Spectra", weights: tuple[float, ...] | None = None) -> "list[Plan]":
    """Plan budgets that are spaced evenly in log.

    Args:
        spectra: spectra of the model.
        weights: importance of each layer's error, (layers,); equal when None.
    """
    from arsvd.fronts import budget_grid
    from arsvd.planning import plan

    return [plan(spectra, rule) for rule in budget_grid(spectra, POINTS, weights)]


BUDGET = Budgets()
