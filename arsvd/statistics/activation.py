"""A layer's outputs on calibration inputs."""

from typing import TYPE_CHECKING, ClassVar

from arsvd.statistics.base import Basis

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn


class Activation(Basis):
    """Energy is the variance of the outputs along a component."""

    calibrated: ClassVar[bool] = True
    energy_range: ClassVar[tuple[float, float]] = (0.9, 0.9999)

    def metrics(
        self, model: "nn.Module", layers: "dict[str, nn.Linear]", batches: "Sequence[Tensor]"
    ) -> "dict[str, Tensor]":
        """Count all errors alike."""
        return {}


ACTIVATION = Activation()
