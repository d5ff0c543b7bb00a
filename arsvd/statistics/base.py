"""What every basis promises."""

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn


class Basis:
    """Coordinates of a layer's outputs z = Wx, and what counts as energy there.

    Attributes:
        calibrated: whether it looks at inputs of the model; the truncated layer then carries their mean.
        comparable: whether energies of different layers are in one unit.
        energy_range: the lowest and the highest threshold of energy that is worth a try.
    """

    calibrated: ClassVar[bool]
    comparable: ClassVar[bool] = False
    energy_range: ClassVar[tuple[float, float]]

    def metrics(
        self, model: "nn.Module", layers: "dict[str, nn.Linear]", batches: "Sequence[Tensor]"
    ) -> "dict[str, Tensor]":
        """Measure in which metric errors of each layer's outputs count.

        Args:
            model: the model; it is not changed.
            layers: name to layer.
            batches: inputs of the model.

        Returns:
            Per layer a symmetric (out, out) float64; nothing where all errors count alike, as they do unless
            a basis says otherwise.
        """
        return {}
