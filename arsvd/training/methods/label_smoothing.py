"""Label smoothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from arsvd.options import Option
from arsvd.options.kinds import Number
from arsvd.training.methods.base import TrainingMethod

if TYPE_CHECKING:
    from torch import Tensor

    from arsvd.training.loss import Answers
    from arsvd.training.setup import Setup
    from arsvd.training.step import StepInputs


class LabelSmoothing(TrainingMethod):
    """Spreads a share of each label evenly over all classes.

    Source:
        Szegedy et al. 2016, section 7.
    """

    name = "label_smoothing"
    options = (
        Option(
            "training.label_smoothing",
            Number(0, 1, high_open=True),
            "share of each label spread over all classes",
            default=0.0,
            absent=0.0,
            forms=("choice", "uniform"),
        ),
    )

    def __init__(self, setup: Setup) -> None:
        self._share = setup.column("training.label_smoothing")

    @classmethod
    def examples(cls) -> tuple[dict[str, Any], ...]:
        """Return a usual share and a large one."""
        return ({"training.label_smoothing": 0.1}, {"training.label_smoothing": 0.9})

    def loss(self, loss: Tensor, answers: Answers, inputs: StepInputs) -> Tensor:
        """Mix the loss with the cross-entropy of all classes."""
        return (1 - self._share) * loss - self._share * answers.log_p.mean((-1, -2))
