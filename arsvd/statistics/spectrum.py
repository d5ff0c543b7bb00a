"""The results of a factorisation: the components of each site, and the costs of its sizes."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from torch import Tensor

from arsvd.cost import Cost
from arsvd.coverage import Coverage
from arsvd.formats import DENSE, FORMATS, LOW_RANK
from arsvd.statistics import BASES


@dataclass(frozen=True)
class Spectrum:
    """The factorisation of one site.

    Attributes:
        name: path of the site's layer in its model.
        basis: name of the basis.
        out_features: number of outputs of the site.
        in_features: number of columns of its matrix, or of each group's matrix.
        has_bias: True if the layer stores a bias.
        energy: energy of each component, (k,) float64 on the CPU, descending, where k is the largest size.
            Energies that rounding alone may have produced are set to zero.
        vectors: vectors L of the components, (out, k) float64 on the layer's device. Their columns are
            orthonormal in each group, except in the loss basis.
        mean: mean of Wx over the calibration inputs, (out,) float64; zeros in the weight basis.
        dual_vectors: vectors D with D^T L = 1 in the loss basis, (out, k) float64; None where the vectors are
            their own duals.
        format: name of the format that the sizes are in.
        site: name of the kind of site.
        groups: number of matrices, which share the outputs evenly.
        positions: number of rows that the matrix multiplies for one input row of the model, where the site
            has several positions.
    """

    name: str
    basis: str
    out_features: int
    in_features: int
    has_bias: bool
    energy: Tensor
    vectors: Tensor
    mean: Tensor
    dual_vectors: Tensor | None = None
    format: str = LOW_RANK
    site: str = "linear"
    groups: int = 1
    positions: float = 1.0

    @property
    def duals(self) -> Tensor:
        """The dual vectors (out, k): the weight at rank r is vectors[:, :r] @ duals[:, :r].T @ weight."""
        return self.vectors if self.dual_vectors is None else self.dual_vectors

    @property
    def largest(self) -> int:
        """The largest size; for ranks, min(out / groups, in)."""
        return len(self.energy)

    def cost(self, size: int | None) -> Cost:
        """Return the cost of the site at a size; None is the dense layer."""
        return self._costs[0 if size is None else size]

    def worthwhile(self, size: int) -> int | None:
        """Apply the break-even guard: return the size, or None where it would not save any bits."""
        # not >: factors of equal size add an error and save nothing
        return None if self._costs[size].bits >= self._costs[0].bits else size

    def kept(self, size: int | None) -> float:
        """Return the share of the energy that a size keeps; 1.0 for the dense layer and for a zero layer."""
        total = float(self._sums[-1])
        if size is None or total == 0.0:
            return 1.0
        return float(self._sums[min(size, len(self._sums)) - 1]) / total if size > 0 else 0.0

    @cached_property
    def memory(self) -> dict[object, Any]:
        """Results that rules have computed from this spectrum, kept for their next plans."""
        return {}

    @cached_property
    def _costs(self) -> list[Cost]:
        """The cost of the dense layer, then that of each size; thousands of plans add them up."""
        format, dense = FORMATS[self.format], FORMATS[DENSE].cost(self, 0)
        found = [dense, *(format.cost(self, size) for size in range(1, self.largest + 1))]
        return [replace(cost, macs=round(cost.macs * self.positions)) for cost in found]

    @cached_property
    def _sums(self) -> np.ndarray:
        # thousands of plans are made of one spectrum: tensor operations would take most of their time
        return np.cumsum(self.energy.numpy())


@dataclass(frozen=True)
class Spectra:
    """The spectra of a model's sites, in the order of registration.

    Attributes:
        basis: name of the basis.
        layers: one spectrum per site.
        other: cost of the rest of the model, including its buffers; it is a part of every cost.
        coverage: share of the model that these sites make up; None where it was not recorded.
        example: a few rows of inputs, to check compressed copies with; None where there were none. They are
            not part of the result: pickles leave them out.
    """

    basis: str
    layers: tuple[Spectrum, ...]
    other: Cost
    coverage: Coverage | None = None
    example: Tensor | None = field(default=None, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "example": None}

    def __iter__(self) -> Iterator[Spectrum]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    @property
    def comparable(self) -> bool:
        """True if energies of different sites have the same unit."""
        return BASES[self.basis].comparable

    def cost(self, sizes: Iterable[int | None]) -> Cost:
        """Return the cost of the whole model at one size per site; multiplications are those of the sites."""
        found = [s.cost(size) for s, size in zip(self.layers, sizes, strict=True)]
        return Cost(
            self.other.numbers + sum(cost.numbers for cost in found),
            self.other.bits + sum(cost.bits for cost in found),
            sum(cost.macs for cost in found),
        )

    @property
    def dense(self) -> tuple[None, ...]:
        """The sizes of the model as it is: every site dense."""
        return (None,) * len(self.layers)
