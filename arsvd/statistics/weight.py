"""The weight itself, as in plain SVD: no inputs are looked at."""

from typing import TYPE_CHECKING, ClassVar

from arsvd.statistics.base import Basis

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn


class Weight(Basis):
    """Energy is the squared singular value."""

    calibrated: ClassVar[bool] = False
    energy_range: ClassVar[tuple[float, float]] = (0.3, 0.999)

    def metrics(
        self, model: "nn.Module", layers: "dict[str, nn.Linear]", batches: "Sequence[Tensor]"
    ) -> "dict[str, Tensor]":
        """Count all errors alike."""
        return {}


WEIGHT = Weight()
