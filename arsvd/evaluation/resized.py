"""A layer at whichever size is asked for."""

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor, nn

from arsvd.calls import carry
from arsvd.formats import FORMATS
from arsvd.sites import Site
from arsvd.statistics.spectrum import Spectrum


class Resized(nn.Module):
    """A site's layer at whichever size is asked for, with the hooks and attributes that it had.

    Args:
        site: the site; its layer loses its hooks to this one.
        spectrum: the site's spectrum.

    Attributes:
        size: the size asked for; None is the dense layer.
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
        """The weight at the size asked for: `nn.TransformerEncoderLayer` reads it in place of a call."""
        return self.at_sizes.numbers(self.size)[0]

    @property
    def bias(self) -> Tensor | None:
        """The bias at the size asked for."""
        return self.at_sizes.numbers(self.size)[1]

    def outputs(self, x: Tensor, sizes: Sequence[int | None]) -> Iterable[tuple[int | None, Tensor]]:
        """Yield the layer's outputs at each of several sizes."""
        return self.at_sizes.outputs(x, sizes)

    def forward(self, *arguments: Any, **keywords: Any) -> Tensor:
        """Compute the layer's outputs at the size asked for."""
        x = arguments[0] if arguments else keywords["input"]
        return next(iter(self.outputs(x, [self.size])))[1]
