"""What every format promises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from arsvd.cost import Cost

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from torch import Tensor, nn

    from arsvd.leaves import Leaf
    from arsvd.sites import Site
    from arsvd.statistics.observed import Observed
    from arsvd.statistics.spectrum import Spectrum


class AtSizes(ABC):
    """A site at whichever size is asked for: what a format computes once and every size shares."""

    @abstractmethod
    def outputs(self, x: Tensor, sizes: Sequence[int | None]) -> Iterable[tuple[int | None, Tensor]]:
        """Yield the site's outputs at each of several sizes, in any order; None is the dense layer.

        Args:
            x: inputs of the layer.
            sizes: distinct sizes.
        """

    @abstractmethod
    def numbers(self, size: int | None) -> tuple[Tensor, Tensor | None]:
        """Return weight and bias at a size, as the dense layer has them."""


class Format(ABC):
    """A way to keep a site, at sizes from 1 to the largest, each with its error and its cost.

    The numbers of a size are among those of every larger one: they are in the order of `Spectrum.energy`.

    Attributes:
        name: name of the format.
        searched: True if a sweep file may name it.
    """

    name: ClassVar[str]
    searched: ClassVar[bool] = True

    def refusal(self, site: Site) -> str | None:
        """Say why a site cannot be kept in this format; None where it can."""
        return None

    @abstractmethod
    def cost(self, spectrum: Spectrum, size: int) -> Cost:
        """Count what a site costs at a size, its multiplications at one position.

        Args:
            spectrum: shape of the site; nothing else of it is looked at.
            size: from 1 to the spectrum's largest.
        """

    @abstractmethod
    def spectra(self, basis: str, observed: Sequence[Observed]) -> list[Spectrum]:
        """Factorise sites of one shape, dtype and device.

        Args:
            basis: name of the basis.
            observed: sites, with what was seen of their outputs where the basis is calibrated.

        Raises:
            ValueError: outputs are not finite, or too few rows were seen.
        """

    @abstractmethod
    def layer(self, site: Site, spectrum: Spectrum, size: int) -> nn.Module:
        """Make the layer that takes the site's place, in its dtype and on its device."""

    def at_sizes(self, site: Site, spectrum: Spectrum) -> AtSizes:
        """Prepare a site to be measured at many sizes; a format whose sizes share products says how."""
        return _OneByOne(self, site, spectrum)

    @abstractmethod
    def options(self, layer: nn.Module) -> dict[str, Any] | None:
        """Return what `empty` needs to make such a layer again; None where the layer is of another format."""

    @abstractmethod
    def empty(self, site: Site, options: Mapping[str, Any], bias: bool) -> nn.Module:
        """Make a layer without numbers for a site.

        Args:
            site: the site in the model that a file is loaded into.
            options: options as a file has them.
            bias: True if the file has a bias for it.

        Raises:
            ValueError: the options do not go with the site.
        """

    def leaves(self) -> Mapping[str, Leaf]:
        """Return the parts that files may name, where a site does not have them already."""
        return {}


class _OneByOne(AtSizes):
    """A layer made anew at each size."""

    def __init__(self, format: Format, site: Site, spectrum: Spectrum) -> None:
        self._format, self._site, self._spectrum = format, site, spectrum

    def _at(self, size: int | None) -> Any:
        site = self._site
        return site.layer if size is None else self._format.layer(site, self._spectrum, size)

    def outputs(self, x: Tensor, sizes: Sequence[int | None]) -> Iterator[tuple[int | None, Tensor]]:
        for size in sizes:
            layer = self._at(size)
            yield size, type(layer).forward(layer, x)  # without hooks: whoever is measured has them

    def numbers(self, size: int | None) -> tuple[Tensor, Tensor | None]:
        layer = self._at(size)
        return layer.weight.detach(), layer.bias
