"""A layer's outputs on calibration inputs, weighted by their effect on the loss."""

from typing import TYPE_CHECKING, ClassVar

from arsvd.statistics.base import Basis

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor, nn

    from arsvd.statistics.observed import Watched


class Loss(Basis):
    """Energy is the variance in the metric of the outputs' Fisher information, in one unit for all layers."""

    calibrated: ClassVar[bool] = True
    comparable: ClassVar[bool] = True
    energy_range: ClassVar[tuple[float, float]] = (0.9, 0.9999)

    def metrics(
        self,
        model: "nn.Module",
        sites: "Mapping[str, Watched]",
        batches: "Sequence[Tensor]",
        members: bool = False,
    ) -> "dict[str, Tensor]":
        """Measure the Fisher information of each site's outputs."""
        from arsvd.statistics.observed import output_fisher

        return output_fisher(model, sites, batches, members=members)


LOSS = Loss()
