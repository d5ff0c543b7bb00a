"""Layers refitted to the dense model's outputs; `arsvd.refit` fits them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from arsvd.candidates.base import Candidates, Context
from arsvd.formats import LOW_RANK

if TYPE_CHECKING:
    from torch import nn

    from arsvd.evaluation.evaluator import OperatingPoint

FAMILY = "refit"
POINTS = 10
ROWS = 5000  # 10,000 rows gain next to nothing (0.1 points, measured on MNIST) and take twice the time


class Refit(Candidates):
    """Models of sizes from the smallest point that loses next to nothing downwards."""

    keeps_weights: ClassVar[bool] = True

    def models(
        self, context: Context, dense: "OperatingPoint", points: "Sequence[OperatingPoint]"
    ) -> "dict[OperatingPoint, nn.Module]":
        """Refit the model at budgets that are spaced evenly in log."""
        from arsvd.candidates.sizes import spread_plans
        from arsvd.evaluation.evaluator import evaluate, operating_point
        from arsvd.fronts import pareto
        from arsvd.refit import refit

        main = context.main
        made: dict[OperatingPoint, nn.Module] = {}
        if any(spectrum.format != LOW_RANK for spectrum in main.spectra):
            return made  # only two factors can be fitted: the right one, to the outputs
        for chosen in spread_plans(main.spectra, pareto(points), dense, POINTS, context.max_drop):
            small = refit(context.model, main.spectra, chosen, context.calibration()[:ROWS])
            point = operating_point(chosen, evaluate(small, main.inputs, main.labels))
            made[point.named(FAMILY)] = small
        return made


REFIT = Refit()
