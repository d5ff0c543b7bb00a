"""A layer whose size can be changed at will."""

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor, nn

from arsvd.calls import carry
from arsvd.formats import FORMATS
from arsvd.sites import Site
from arsvd.statistics.spectrum import Spectrum


class Resized(nn.Module):
    """A site's layer at any requested size, with the hooks and attributes that the layer had.

    Args:
        site: site to resize; the hooks of its layer move to this module.
        spectrum: spectrum of the site.

    Attributes:
        size: requested size; None for the dense layer.
    """

    def __init__(self, site: Site, spectrum: Spectrum) -> None:
        super().__init__()
        own = vars(self)
        own |= {name: value for name, value in vars(site.layer).items() if name not in own}
        carry(site, self)
        self.at_sizes = FORMATS[spectrum.format].at_sizes(site, spectrum)
        self.size: int | None = None

    @property
    def weight(self) -> Tensor:
        """The weight at the requested size: `nn.TransformerEncoderLayer` reads it in place of a call."""
        return self.at_sizes.numbers(self.size)[0]

    @property
    def bias(self) -> Tensor | None:
        """The bias at the requested size."""
        return self.at_sizes.numbers(self.size)[1]

    def outputs(self, x: Tensor, sizes: Sequence[int | None]) -> Iterable[tuple[int | None, Tensor]]:
        """Yield the layer's outputs at each of several sizes."""
        return self.at_sizes.outputs(x, sizes)

    def forward(self, *arguments: Any, **keywords: Any) -> Tensor:
        """Compute the layer's outputs at the requested size."""
        x = arguments[0] if arguments else keywords["input"]
        return next(iter(self.outputs(x, [self.size])))[1]
