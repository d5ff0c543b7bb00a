"""The weight as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from arsvd.cost import Cost
from arsvd.formats.base import Format

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor, nn

    from arsvd.sites import Site
    from arsvd.statistics.observed import Observed
    from arsvd.statistics.spectrum import Spectrum


class Dense(Format):
    """A site that stays as it was; it has a single size, so there is nothing to choose."""

    name: ClassVar[str] = "dense"
    searched: ClassVar[bool] = False
    coded: ClassVar[tuple[str, ...]] = ("weight",)

    def cost(self, spectrum: Spectrum, size: int) -> Cost:
        """Count the weight and the bias."""
        weight = spectrum.out_features * spectrum.in_features
        return Cost.of(weight + spectrum.out_features * int(spectrum.has_bias), weight)

    def spectra(self, basis: str, observed: Sequence[Observed]) -> list[Spectrum]:
        """Refuse, since there is nothing to factorise.

        Raises:
            ValueError: always.
        """
        raise ValueError("a dense site has no sizes to choose from")

    def layer(self, site: Site, spectrum: Spectrum, size: int) -> nn.Module:
        """Return the layer itself."""
        return site.layer

    def options(self, layer: nn.Module) -> dict[str, Any] | None:
        """Return None: files list no dense layers."""
        return None

    def empty(self, site: Site, options: Mapping[str, Any], bias: bool) -> nn.Module:
        """Return the layer itself."""
        return site.layer

    def steps(self, layer: nn.Module) -> int:
        """Return one for each output."""
        weight: Tensor = layer.weight  # type: ignore[assignment]
        return len(weight)

    def spread(self, layer: nn.Module, name: str, steps: Tensor) -> Tensor:
        """Give each row of the weight its step."""
        weight: Tensor = layer.weight  # type: ignore[assignment]
        return steps.view(-1, *[1] * (weight.ndim - 1))

    def inputs(self, layer: nn.Module, x: Tensor) -> Mapping[str, Tensor]:
        """Return the inputs of a linear layer."""
        return {"weight": x}


DENSE = Dense()
