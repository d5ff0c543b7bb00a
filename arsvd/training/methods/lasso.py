"""A group lasso on the columns of factors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from arsvd.options import Option
from arsvd.options.kinds import Number
from arsvd.training.methods.base import TrainingMethod

if TYPE_CHECKING:
    from torch import Tensor

    from arsvd.training.setup import Setup


class Lasso(TrainingMethod):
    """Adds weight * sum over columns of sqrt(rows) * ||column||_2 to the loss, which empties columns.

    A column of a layer's last factor belongs to a hidden unit, one of an earlier factor to a component within
    the layer. The last layer's last factor is left out: its columns are the classes.

    Source:
        Yuan and Lin 2006, equation 2.1, with each column as a group. AdamW takes the gradient of the
        penalty in place of a proximal step, so columns come close to zero and do not reach it.
    """

    name = "lasso"
    options = (
        Option(
            "training.lasso.weight",
            Number(0),
            "weight of a group lasso on the columns of factors",
            default=0.0,
            absent=0.0,
            forms=("choice", "uniform", "loguniform"),
        ),
    )

    def __init__(self, setup: Setup) -> None:
        weight = setup.column("training.lasso.weight")
        *penalised, _ = setup.pack.own_parameters()[: -len(setup.pack.biases)]
        self._factors = [
            (factor.tensor, weight * weight.new_tensor([rows for rows, _ in factor.shapes]).sqrt())
            for factor in penalised
        ]

    @classmethod
    def examples(cls) -> tuple[dict[str, Any], ...]:
        """Return a weight large enough to have an effect."""
        return ({"training.lasso.weight": 1e-3},)

    def penalty(self) -> Tensor | None:
        """Sum the columns' norms; a padded column adds 0, and its gradient is 0 as for every empty one."""
        from torch.linalg import vector_norm

        terms = [scale * vector_norm(factor, dim=1).sum(-1) for factor, scale in self._factors]
        return sum(terms[1:], terms[0]) if terms else None
