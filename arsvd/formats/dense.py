"""The weight as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from arsvd.cost import Cost
from arsvd.formats.base import Format

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn

    from arsvd.sites import Site
    from arsvd.statistics.observed import Observed
    from arsvd.statistics.spectrum import Spectrum


class Dense(Format):
    """A site that stays as it was; it has a single size, so there is nothing to choose."""

    name: ClassVar[str] = "dense"
    searched: ClassVar[bool] = False

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


DENSE = Dense()
