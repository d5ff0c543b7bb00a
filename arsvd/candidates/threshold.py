"""One global threshold of a rank rule."""

from typing import TYPE_CHECKING

from arsvd.candidates.base import Candidates, Context
from arsvd.rules import RULES

if TYPE_CHECKING:
    from arsvd.planning import Plan


class Threshold(Candidates):
    """Every wanted rule at every wanted threshold, in the bases that the rule applies to."""

    def plans(self, context: Context, view: str) -> "list[Plan]":
        """Plan each rule at each threshold."""
        from arsvd.planning import plan

        spectra = context.evaluators[view].spectra
        return [
            plan(spectra, rule)
            for name in context.rules
            if spectra.basis in RULES[name].bases
            for rule in RULES[name].at(context.thresholds)
        ]


THRESHOLD = Threshold()
