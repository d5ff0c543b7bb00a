"""Two factors in place of a weight.

All bases come from one symmetric eigendecomposition in float64 and lead to the same kind of factors,
W_r = L_r D_r^T W:

- the weight basis decomposes C = W W^T, so that L = D = U holds the left singular vectors of W, and the
  energies are its squared singular values (arXiv 2504.20078 v1 takes them from an SVD of W; the Gram matrix
  in float64 gives the same to the precision of float32 weights, and is an order of magnitude faster on wide
  layers);
- the activation basis decomposes C = cov(Wx) over calibration inputs. Its eigenvectors minimise the mean
  squared error of the layer's outputs among all projections of a given rank (principal components of the
  outputs), with the mean kept exactly through the bias;
- the loss basis decomposes T C T^T with T^T T = F, the Fisher information of the layer's outputs. Its
  eigenvectors U minimise the expected rise of the loss to second order, tr(F E[d d^T]) / 2 nats for an error
  d. The projection is oblique, with L = T^-1 U and D = T^T U, and energies of different layers have the same
  unit.

Outputs lie in the range of W, so where W has fewer columns than rows, the decomposition is made in that
range: of a matrix (in, in) in place of one (out, out).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from arsvd.cost import Cost
from arsvd.formats.base import AtSizes, Format
from arsvd.statistics import BASES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor, nn

    from arsvd.sites import Site
    from arsvd.statistics.observed import Observed
    from arsvd.statistics.spectrum import Spectrum

TILE = 16  # columns that a product's kernel computes at a time: rounding up to whole tiles takes less time


class LowRank(Format):
    """Two factors; a size is a rank, the number of components that each group of the site keeps."""

    name: ClassVar[str] = "low_rank"
    coded: ClassVar[tuple[str, ...]] = ("right", "left")

    def cost(self, spectrum: Spectrum, size: int) -> Cost:
        """Count both factors and the bias, which carries the mean where there were calibration inputs."""
        factors = size * (spectrum.out_features + spectrum.groups * spectrum.in_features)
        return Cost.of(factors + spectrum.out_features * self._biased(spectrum), factors)

    def spectra(self, basis: str, observed: Sequence[Observed]) -> list[Spectrum]:
        """Decompose the sites' outputs; the host waits for the device once for all sites."""
        from arsvd.formats.decomposition import decompose

        return decompose(self.name, basis, observed)

    def layer(self, site: Site, spectrum: Spectrum, size: int) -> nn.Module:
        """Make the layer of two factors."""
        from arsvd.formats.factors import factors, filled

        return filled(site, *factors(spectrum, site, size, self._biased(spectrum)))

    def at_sizes(self, site: Site, spectrum: Spectrum) -> AtSizes:
        """Share the product with the right factor among all ranks."""
        return _AtRanks(site, spectrum, self._biased(spectrum))

    def options(self, layer: nn.Module) -> dict[str, Any] | None:
        """Return the rank."""
        from arsvd.sites import SITES

        pairs = {leaf.module for _, site in SITES.items() for leaf in site.leaves().values()}
        pairs -= {site.kind() for _, site in SITES.items()}
        return {"rank": layer.rank} if type(layer) in pairs else None

    def empty(self, site: Site, options: Mapping[str, Any], bias: bool) -> nn.Module:
        """Make the layer of two factors."""
        return site.pair(options["rank"], bias)

    def steps(self, layer: nn.Module) -> int:
        """Return one for each component of each group."""
        right: Tensor = layer.right  # type: ignore[assignment]
        return len(right)

    def spread(self, layer: nn.Module, name: str, steps: Tensor) -> Tensor:
        """Give a component's row of the right factor, and its column of the left one, their common step."""
        left, right = (getattr(layer, factor) for factor in ("left", "right"))
        if name == "right":
            return steps.view(-1, *[1] * (right.ndim - 1))
        return (
            steps.view(-1, 1, left.shape[1])
            .expand(-1, len(left) // (len(steps) // left.shape[1]), -1)
            .flatten(0, 1)
        )

    def inputs(self, layer: nn.Module, x: Tensor) -> Mapping[str, Tensor]:
        """Return the inputs of a linear layer, and what its right factor makes of them."""
        right: Tensor = layer.right  # type: ignore[assignment]
        return {"right": x, "left": x @ right.T}

    @staticmethod
    def _biased(spectrum: Spectrum) -> bool:
        return spectrum.has_bias or BASES[spectrum.basis].calibrated


class _AtRanks(AtSizes):
    """The factors at full rank, in the model's dtype, and the terms of the bias at each rank."""

    def __init__(self, site: Site, spectrum: Spectrum, biased: bool) -> None:
        from arsvd.formats.factors import factors, times

        self._site, self._biased = site, biased
        # the compressed layer's own factors: with another scale, half precision would round them differently
        left, right, _ = factors(spectrum, site, spectrum.largest, biased)
        self._left, self._right = left.to(site.weight.dtype), right.to(site.weight.dtype)
        self._mean, self._vectors = spectrum.mean, site.grouped(spectrum.vectors)
        self._along = times(site.grouped(spectrum.duals).mT, site.grouped(spectrum.mean))

    def outputs(self, x: Tensor, sizes: Sequence[int | None]) -> Iterator[tuple[int | None, Tensor]]:
        """Compute one product with the right factor for all sizes, with ranks rounded up to whole tiles."""
        largest = max((size for size in sizes if size is not None), default=0)
        reduced = None
        if largest:
            reduced = self._site.reduced(x, self._right[..., : -(-largest // TILE) * TILE, :])
        layer: Any = self._site.layer
        for size in sizes:
            if size is None or reduced is None:
                yield size, type(layer).forward(layer, x)
            else:
                yield size, self._site.restored(reduced, self._left[:, :size], self._bias(size))

    def numbers(self, size: int | None) -> tuple[Tensor, Tensor | None]:
        """Multiply the factors."""
        site = self._site
        if size is None:
            return site.weight, site.bias
        product = site.grouped(self._left[:, :size]) @ self._right[..., :size, :]
        return product.reshape(site.weight.shape), self._bias(size)

    def _bias(self, size: int) -> Tensor | None:
        """Return the bias (out,) at a rank: b_r = b + mean - L_r (D_r^T mean)."""
        if not self._biased:
            return None
        from arsvd.formats.factors import times

        lost = self._mean - times(self._vectors[..., :size], self._along[..., :size]).flatten()
        own = self._site.bias
        return (lost if own is None else lost + own.double()).to(self._left.dtype)


LOW_RANK = LowRank()
