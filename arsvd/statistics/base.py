"""What every basis promises."""

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor, nn

    from arsvd.statistics.observed import Watched


class Basis:
    """Coordinates of a layer's outputs z = Wx, and what counts as energy there.

    Attributes:
        calibrated: True if the basis needs inputs of the model; the bias of a truncated layer then keeps the
            mean of its outputs.
        comparable: True if energies of different layers have the same unit.
        energy_range: lowest and highest energy threshold that are worth trying.
    """

    calibrated: ClassVar[bool]
    comparable: ClassVar[bool] = False
    energy_range: ClassVar[tuple[float, float]]

    def metrics(
        self,
        model: "nn.Module",
        sites: "Mapping[str, Watched]",
        batches: "Sequence[Tensor]",
        members: bool = False,
    ) -> "dict[str, Tensor]":
        """Measure the metric in which errors of each site's outputs count.

        Args:
            model: model to run; it is not changed.
            sites: sites of the model, by name.
            batches: inputs of the model.
            members: True if the model is a pack, whose outputs are (members, rows, classes).

        Returns:
            A symmetric float64 matrix (…, out, out) for each site, positive definite once it is damped. Empty
            where all errors count alike, as they do unless a basis overrides this.
        """
        return {}
