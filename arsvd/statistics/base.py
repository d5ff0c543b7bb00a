"""What every basis promises."""

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor, nn

    from arsvd.statistics.observed import Watched


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
        self,
        model: "nn.Module",
        sites: "Mapping[str, Watched]",
        batches: "Sequence[Tensor]",
        members: bool = False,
    ) -> "dict[str, Tensor]":
        """Measure in which metric errors of each site's outputs count.

        Args:
            model: the model; it is not changed.
            sites: name to site.
            batches: inputs of the model.
            members: True if the model is a pack, which gives (members, rows, classes).

        Returns:
            A symmetric (…, out, out) float64 for each site, positive once it is damped; nothing where all
            errors count alike, as they do unless a basis says otherwise.
        """
        return {}
