"""Each weight to the level that is nearest to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from arsvd.roundings.base import UNBOUNDED, Levels, Rounding

if TYPE_CHECKING:
    from torch import Tensor


class Nearest(Rounding):
    """The least error of each weight by itself."""

    name: ClassVar[str] = "nearest"
    calibrated: ClassVar[bool] = False

    def codes(
        self, matrix: Tensor, steps: Tensor, second: Tensor | None = None, levels: Levels = UNBOUNDED
    ) -> Tensor:
        """Divide by the steps and round."""
        return levels.nearest(matrix / steps)


NEAREST = Nearest()
