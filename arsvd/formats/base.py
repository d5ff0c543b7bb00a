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
    """A site at any requested size: holds what a format computes once for all sizes."""

    @abstractmethod
    def outputs(self, x: Tensor, sizes: Sequence[int | None]) -> Iterable[tuple[int | None, Tensor]]:
        """Yield the site's outputs at each of several sizes, in any order; None is the dense layer.

        Args:
            x: inputs of the layer.
            sizes: distinct sizes.
        """

    @abstractmethod
    def numbers(self, size: int | None) -> tuple[Tensor, Tensor | None]:
        """Return the weight and the bias at a size, in the shapes of the dense layer's."""


class Format(ABC):
    """A way to store a site, at sizes from 1 to the largest, each with its error and its cost.

    Sizes are nested: what a size keeps, every larger one keeps as well, in the order of `Spectrum.energy`.

    Attributes:
        name: name of the format.
        searched: True if a sweep file may name it.
        coded: parameters of its layers that may be codes, in the order in which inputs meet them.
    """

    name: ClassVar[str]
    searched: ClassVar[bool] = True
    coded: ClassVar[tuple[str, ...]] = ()

    def refusal(self, site: Site) -> str | None:
        """Say why a site cannot be stored in this format; None where it can."""
        return None

    @abstractmethod
    def cost(self, spectrum: Spectrum, size: int) -> Cost:
        """Return the cost of a site at a size, with its multiplications at one position.

        Args:
            spectrum: spectrum of the site, of which only the shape counts.
            size: size from 1 to the spectrum's largest.
        """

    @abstractmethod
    def spectra(self, basis: str, observed: Sequence[Observed]) -> list[Spectrum]:
        """Factorise sites of one shape, dtype and device.

        Args:
            basis: name of the basis.
            observed: sites, with the statistics of their outputs where the basis is calibrated.

        Raises:
            ValueError: outputs are not finite, or too few rows were seen.
        """

    @abstractmethod
    def layer(self, site: Site, spectrum: Spectrum, size: int) -> nn.Module:
        """Make the layer that replaces the site's layer, in its dtype and on its device."""

    def at_sizes(self, site: Site, spectrum: Spectrum) -> AtSizes:
        """Prepare a site to be measured at many sizes; override this where sizes can share products."""
        return _OneByOne(self, site, spectrum)

    @abstractmethod
    def options(self, layer: nn.Module) -> dict[str, Any] | None:
        """Return what `empty` needs to remake such a layer; None where the layer is in another format."""

    @abstractmethod
    def empty(self, site: Site, options: Mapping[str, Any], bias: bool) -> nn.Module:
        """Make a layer for a site, its numbers not set.

        Args:
            site: site in the model that a file is loaded into.
            options: options of the layer, as read from the file.
            bias: True if the file has a bias for the layer.

        Raises:
            ValueError: the options do not fit the site.
        """

    def steps(self, layer: nn.Module) -> int:
        """Return how many steps the codes of a layer have."""
        raise NotImplementedError(f"layers of the format {self.name!r} have no codes")

    def spread(self, layer: nn.Module, name: str, steps: Tensor) -> Tensor:
        """Give each weight its step.

        Args:
            layer: layer in this format.
            name: one of the coded parameters.
            steps: steps (n,).

        Returns:
            A tensor that broadcasts to the parameter.
        """
        raise NotImplementedError(f"layers of the format {self.name!r} have no codes")

    def inputs(self, layer: nn.Module, x: Tensor) -> Mapping[str, Tensor]:
        """Return what each coded parameter is multiplied with, (…, features).

        Args:
            layer: layer in this format whose coded parameters are matrices.
            x: inputs of the layer.
        """
        return {}

    def leaves(self) -> Mapping[str, Leaf]:
        """Return the parts that files may name, other than those of the kinds of sites."""
        return {}


class _OneByOne(AtSizes):
    """A site whose layer is made anew at each size."""

    def __init__(self, format: Format, site: Site, spectrum: Spectrum) -> None:
        self._format, self._site, self._spectrum = format, site, spectrum

    def _at(self, size: int | None) -> Any:
        site = self._site
        return site.layer if size is None else self._format.layer(site, self._spectrum, size)

    def outputs(self, x: Tensor, sizes: Sequence[int | None]) -> Iterator[tuple[int | None, Tensor]]:
        for size in sizes:
            layer = self._at(size)
            yield size, type(layer).forward(layer, x)  # without hooks: the measured layer runs them itself

    def numbers(self, size: int | None) -> tuple[Tensor, Tensor | None]:
        layer = self._at(size)
        return layer.weight.detach(), layer.bias
