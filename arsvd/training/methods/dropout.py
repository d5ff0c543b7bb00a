"""Dropout of hidden units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from arsvd.options import Option
from arsvd.options.kinds import Number
from arsvd.training.methods.base import TrainingMethod

if TYPE_CHECKING:
    from torch import Tensor

    from arsvd.training.hyperparameters import Hyperparameters
    from arsvd.training.setup import Setup

_STREAM = 2


class Dropout(TrainingMethod):
    """Drops each hidden unit with a probability, and scales up the units that are kept.

    Source:
        Srivastava et al. 2014, with the scale in training instead of afterwards.
    """

    name = "dropout"
    options = (
        Option(
            "model.dropout",
            Number(0, 1, high_open=True),
            "probability with which a hidden unit is dropped",
            default=0.0,
            absent=0.0,
            forms=("choice", "uniform"),
        ),
    )

    def __init__(self, setup: Setup) -> None:
        self._stream = setup.draws.stream(_STREAM)
        rates = [member["model.dropout"] for member in setup.members]
        self._draw = self._stream.masks(rates, setup.pack.hidden_widths)
        self._masks: list[Tensor] = []

    @classmethod
    def examples(cls) -> tuple[dict[str, Any], ...]:
        """Return a usual rate."""
        return ({"model.dropout": 0.3},)

    @classmethod
    def shares_batches(cls, members: Sequence[Hyperparameters]) -> bool:
        """Tell that each member has its own masks."""
        return False

    def hidden(self, x: Tensor, layer: int) -> Tensor:
        """Multiply by the mask; all masks of a step are drawn at once, which takes fewer operations."""
        if layer == 0:
            self._masks = self._draw(x.shape[1])
        return x * self._masks.pop(0)

    def state(self, member: int, within_epoch: bool) -> dict[str, Tensor]:
        """Return the random state."""
        return self._stream.state(member, within_epoch)

    def restore(self, member: int, state: Mapping[str, Tensor]) -> None:
        """Set the random state."""
        self._stream.restore(member, state)
