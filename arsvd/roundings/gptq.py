"""Each weight in turn, its error taken up by those that are still to be rounded."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from arsvd.roundings.base import UNBOUNDED, Levels, Rounding

if TYPE_CHECKING:
    from torch import Tensor

_BLOCK = 64  # columns whose errors reach the rest in one product


class Gptq(Rounding):
    """A small error of the matrix's outputs on its inputs, tr(E H E^T) with H = E[x x^T].

    Columns are rounded in descending order of their inputs' second moments. What a column loses is made up
    for by the columns to come, as far as these can: W_rest -= e U_rest / U_jj, U being the upper Cholesky
    factor of the inverse of H.

    Source:
        Frantar et al. 2022 (arXiv 2210.17323), algorithm 1, with the order of columns of their released code.
        Here H is damped by 1 % of its mean diagonal, and steps may belong to columns as well as to rows.
    """

    name: ClassVar[str] = "gptq"
    calibrated: ClassVar[bool] = True

    def codes(
        self, matrix: Tensor, steps: Tensor, second: Tensor | None = None, levels: Levels = UNBOUNDED
    ) -> Tensor:
        """Round column by column; without second moments, or where all are zero, to the nearest levels."""
        import torch

        if second is None or not bool(second.diagonal().any()):
            return levels.nearest(matrix / steps)
        order = second.diagonal().argsort(descending=True, stable=True)
        upper = _inverse_factor(second[order][:, order])
        weights, steps = matrix[:, order].clone(), steps.expand_as(matrix)[:, order]
        codes = torch.empty_like(weights)
        for begin in range(0, weights.shape[1], _BLOCK):
            end = min(begin + _BLOCK, weights.shape[1])
            errors = torch.empty_like(weights[:, begin:end])
            for column in range(begin, end):
                quotients = weights[:, column] / steps[:, column]
                codes[:, column] = levels.nearest(quotients)
                lost = weights[:, column] - levels.values(codes[:, column]) * steps[:, column]
                errors[:, column - begin] = lost / upper[column, column]
                rest = slice(column + 1, end)
                weights[:, rest] -= errors[:, column - begin, None] * upper[column, rest]
            weights[:, end:] -= errors @ upper[begin:end, end:]
        return codes[:, order.argsort()]


def _inverse_factor(second: Tensor) -> Tensor:
    """Return the upper triangular U with U^T U = inverse of the damped second moments."""
    import torch

    from arsvd.statistics.observed import damped

    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped(second)))
    upper: Tensor = torch.linalg.cholesky(inverse, upper=True)
    return upper


GPTQ = Gptq()
