"""Factorise each linear layer once: basis vectors and the energy of each.

Both bases come from one symmetric eigendecomposition of an (out, out) matrix in float64 and lead to the
same kind of factors, W_r = U_r U_r^T W:

- weight basis: C = W W^T, so U and the energies are the left singular vectors and the squared singular
  values of W (arXiv 2504.20078 v1 takes them from an SVD of W; the Gram matrix in float64 gives the same
  to the precision of float32 weights, and is an order of magnitude faster on wide layers);
- activation basis: C = cov(Wx) over calibration inputs. Its eigenvectors minimise the mean squared error
  of the layer's outputs among all projections of a given rank (principal components of the outputs), with
  the mean kept exactly through the bias. No matrix is inverted;
- loss basis: C = R cov(Wx) R with R the root of the Fisher information F of the layer's outputs (see
  `arsvd.curvature`). Its eigenvectors, taken back by R^-1, minimise the expected rise of the loss to second
  order, tr(F E[d d^T]) / 2 nats for an error d. The projection is oblique, W_r = L_r D_r^T W with
  L = R^-1 U and D = R U, and energies of different layers are in one unit.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from arsvd.curvature import output_fisher
from arsvd.layers import linear_layers
from arsvd.moments import calibration_batches, output_moments

BASES = ("weight", "activation", "loss")


@dataclass(frozen=True)
class Spectrum:
    """The factorisation of one linear layer.

    Attributes:
        name: the layer's path in its model.
        basis: "weight", "activation" or "loss".
        out_features: rows of the layer's weight.
        in_features: columns of the layer's weight.
        has_bias: whether the layer stores a bias.
        energy: (k,) float64 on the CPU, descending, k = min(out, in). What rounding alone can have
            produced is set to zero.
        vectors: (out, k) float64 on the layer's device; orthonormal columns but in the loss basis.
        mean: (out,) float64, the mean of Wx over the calibration inputs; zeros in the weight basis.
        dual_vectors: (out, k) float64, D with D^T L = 1 in the loss basis; None where the vectors are
            their own duals.
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

    @property
    def duals(self) -> Tensor:
        """(out, k): the weight at rank r is vectors[:, :r] @ duals[:, :r].T @ weight."""
        return self.vectors if self.dual_vectors is None else self.dual_vectors

    @property
    def full_rank(self) -> int:
        """The largest rank there is, min(out, in)."""
        return min(self.out_features, self.in_features)

    @property
    def biased_when_truncated(self) -> bool:
        """Whether the truncated layer stores a bias: with calibration inputs it carries their mean."""
        return self.has_bias or self.basis != "weight"

    def params(self, rank: int | None) -> int:
        """Count the numbers stored at a rank; None is the dense layer."""
        if rank is None:
            return self.out_features * (self.in_features + int(self.has_bias))
        return rank * (self.out_features + self.in_features) + self.out_features * self.biased_when_truncated

    def macs(self, rank: int | None) -> int:
        """Count the multiplications of one input row at a rank; None is the dense layer."""
        if rank is None:
            return self.out_features * self.in_features
        return rank * (self.out_features + self.in_features)

    def worthwhile(self, rank: int) -> int | None:
        """Apply the break-even guard: the rank, or None where the factors would hold no fewer numbers."""
        # not >: factors of equal size bring an error and save nothing
        return None if self.params(rank) >= self.params(None) else rank

    def kept(self, rank: int | None) -> float:
        """The share of the energy that a rank keeps; 1.0 for the dense layer and for a zero layer."""
        total = float(self._sums[-1])
        if rank is None or total == 0.0:
            return 1.0
        return float(self._sums[min(rank, len(self._sums)) - 1]) / total if rank > 0 else 0.0

    @cached_property
    def memory(self) -> dict[object, Any]:
        """What rules have worked out from this spectrum, for their next plan of it."""
        return {}

    @cached_property
    def _sums(self) -> np.ndarray:
        # thousands of plans are made of one spectrum: tensor operations would take most of their time
        return np.cumsum(self.energy.numpy())


@dataclass(frozen=True)
class Spectra:
    """The spectra of a model's linear layers, in the order of registration.

    Attributes:
        basis: "weight", "activation" or "loss".
        layers: one spectrum a layer.
        other_params: parameters of the model outside these layers; they count in every size.
    """

    basis: str
    layers: tuple[Spectrum, ...]
    other_params: int

    def __iter__(self) -> Iterator[Spectrum]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    @property
    def comparable(self) -> bool:
        """Whether energies of different layers are in one unit."""
        return self.basis == "loss"

    def params(self, ranks: Iterable[int | None]) -> int:
        """Count the stored numbers of the whole model at one rank a layer."""
        return self.other_params + sum(s.params(r) for s, r in zip(self.layers, ranks, strict=True))

    def macs(self, ranks: Iterable[int | None]) -> int:
        """Count the multiplications of one input row in these layers at one rank a layer."""
        return sum(s.macs(r) for s, r in zip(self.layers, ranks, strict=True))

    @property
    def dense(self) -> tuple[None, ...]:
        """The ranks of the model as it is: every layer dense."""
        return (None,) * len(self.layers)


def spectra(
    model: nn.Module,
    calibration: Tensor | Iterable[Tensor] | None = None,
    layers: Iterable[str] | None = None,
    batch_size: int = 2048,
    basis: str | None = None,
) -> Spectra:
    """Factorise every linear layer of a model.

    Args:
        model: any module that holds `nn.Linear` layers; it is not changed.
        calibration: inputs of the model, (rows, …), or batches of them; at least 2 rows. They choose the
            activation basis, if not told otherwise. None chooses the weight basis.
        layers: names of the layers to factorise; all when None.
        batch_size: rows a forward pass takes when `calibration` is one tensor.
        basis: "weight", "activation" or "loss"; the last one is for classifiers and needs a backward pass.

    Returns:
        One spectrum a layer.

    Raises:
        ValueError: a layer holds NaN or infinite weights, has outputs that are not finite, shares its
            weight, or never ran on the calibration inputs; fewer than 2 rows; inputs that the model
            does not take; a basis that is unknown or does not go with the calibration.
        TypeError: a calibration batch is not a tensor.
    """
    basis = chosen_basis(basis, calibration)
    found = linear_layers(model, layers)
    for name, layer in found.items():
        if not bool(torch.isfinite(layer.weight).all()):
            raise ValueError(f"layer {name!r} holds NaN or infinite weights; it cannot be factorised")
    if calibration is None:
        results = [spectrum for item in found.items() for spectrum in weight_spectra([item])]
    else:
        batches = list(calibration_batches(calibration, batch_size))
        moments = output_moments(model, found, batches)
        metrics = output_fisher(model, found, batches) if basis == "loss" else {}
        results = []
        for name, layer in found.items():
            rows, total, second = moments[name]
            metric = metrics[name][None] if basis == "loss" else None
            results += output_spectra([(name, layer)], basis, rows, total[None], second[None], metric)
    return joined(model, basis, results)


def chosen_basis(basis: str | None, calibration: Tensor | Iterable[Tensor] | None) -> str:
    """Return the basis asked for, or the one that goes with the calibration.

    Raises:
        ValueError: the basis is unknown or does not go with the calibration.
    """
    basis = basis or ("weight" if calibration is None else "activation")
    if basis not in BASES:
        raise ValueError(f"unknown basis {basis!r}; there are {', '.join(BASES)}")
    if (basis == "weight") != (calibration is None):
        needs = "takes no" if basis == "weight" else "needs"
        raise ValueError(f"the {basis} basis {needs} calibration inputs")
    return basis


def joined(model: nn.Module, basis: str, layers: Sequence[Spectrum]) -> Spectra:
    """Put a model's spectra together."""
    inside = sum(spectrum.params(None) for spectrum in layers)
    return Spectra(basis, tuple(layers), sum(p.numel() for p in model.parameters()) - inside)


NamedLayer = tuple[str, nn.Linear]


def weight_spectra(layers: Sequence[NamedLayer]) -> list[Spectrum]:
    """Factorise layers of one shape, dtype and device in the weight basis.

    Args:
        layers: names and layers; their weights are finite.
    """
    weights = torch.stack([layer.weight.detach() for _, layer in layers]).double()
    return _decompose(layers, "weight", weights @ weights.mT, torch.zeros_like(weights[..., 0]))


def output_spectra(
    layers: Sequence[NamedLayer],
    basis: str,
    rows: int,
    totals: Tensor,
    seconds: Tensor,
    metrics: Tensor | None,
) -> list[Spectrum]:
    """Factorise layers of one shape, dtype and device from what they gave on calibration inputs.

    Args:
        layers: names and layers.
        basis: "activation" or "loss".
        rows: calibration rows that each layer saw.
        totals: (layers, out) float64, sums of z = Wx over the rows.
        seconds: (layers, out, out) float64, sums of z z^T.
        metrics: (layers, out, out) float64, the Fisher information of the outputs in the loss basis.

    Raises:
        ValueError: there are fewer than two rows, or outputs that are not finite.
    """
    if rows < 2:
        raise ValueError(f"layer {layers[0][0]!r} saw {rows} calibration rows; a covariance needs at least 2")
    means = totals / rows
    covariances = seconds / rows - means[:, :, None] * means[:, None, :]
    finite = torch.isfinite(covariances).flatten(1).all(1).tolist()
    if not all(finite):
        name = layers[finite.index(False)][0]
        raise ValueError(f"layer {name!r} gives outputs that are not finite on the calibration inputs")
    return _decompose(layers, basis, covariances, means, metrics)


def _decompose(
    layers: Sequence[NamedLayer], basis: str, matrices: Tensor, means: Tensor, metrics: Tensor | None = None
) -> list[Spectrum]:
    """Decompose the matrices (layers, out, out) of layers of one shape; the host waits once for all of them.

    Args:
        layers: names and layers.
        basis: their basis.
        matrices: symmetric, float64.
        means: (layers, out) of Wx.
        metrics: (layers, out, out) positive, in which the matrices are to be seen; the plain one when None.
    """
    shape = layers[0][1]
    rank = min(shape.out_features, shape.in_features)
    seen = means
    if metrics is not None:
        values, directions = torch.linalg.eigh(metrics)  # positive: the metric is damped
        scale = values.sqrt()[:, None]
        root, inverse = (directions * scale) @ directions.mT, (directions / scale) @ directions.mT
        matrices, seen = root @ matrices @ root, (root @ means[..., None])[..., 0]
    values, vectors = torch.linalg.eigh(matrices)  # ascending
    energies, vectors = values.flip(-1)[:, :rank].clamp_min(0.0), vectors.flip(-1)[..., :rank]
    read = torch.cat([energies, seen.square().sum(-1, keepdim=True)], dim=1).cpu()
    energies, shifts = read[:, :-1], read[:, -1]
    floors = noise_floor(energies, shape.weight, basis, shifts)
    energies = torch.where(energies > floors[:, None], energies, 0.0)
    duals = None
    if metrics is not None:
        vectors, duals = inverse @ vectors, root @ vectors
    return [
        Spectrum(
            name=name,
            basis=basis,
            out_features=layer.out_features,
            in_features=layer.in_features,
            has_bias=layer.bias is not None,
            # copies: views would keep what belongs to all layers alive, and be written to files whole
            energy=energies[index].clone(),
            vectors=vectors[index].clone(memory_format=torch.contiguous_format),
            mean=means[index].clone(),
            dual_vectors=None if duals is None else duals[index].clone(),
        )
        for index, (name, layer) in enumerate(layers)
    ]


def noise_floor(energies: Tensor, weight: Tensor, basis: str, shifts: Tensor) -> Tensor:
    """Return the energies below which a component may be rounding and nothing else.

    Three sources, the largest one counts. Rounding a weight of shape (m, n) to its dtype adds independent
    errors of at most u |w|, u the unit roundoff; the largest singular value of such a matrix is about
    u ||W||_F (1/sqrt(m) + 1/sqrt(n)), so its energy is the square of that. (The usual m * eps of
    `matrix_rank` is above 1 for bfloat16 and would call every weight zero.) With calibration inputs,
    sums of n products in float32 are off by up to about eps sqrt(n) of their size, the mean included, and
    the m outputs share that energy. And the eigenvalues of a float64 matrix are exact to about m * eps64
    of its largest, before the mean was taken out.

    Args:
        energies: (layers, k) descending, float64.
        weight: (m, n), one of these layers', in the dtype that the model stores.
        basis: "weight", "activation" or "loss".
        shifts: (layers,) the squared norm of the mean of Wx, in the metric of the energies; zeros in the
            weight basis.

    Returns:
        (layers,) float64.
    """
    rows, columns = weight.shape
    roundoff = torch.finfo(weight.dtype).eps / 2
    sums = energies.sum(1)
    rounding = sums * (roundoff * (1 / math.sqrt(rows) + 1 / math.sqrt(columns))) ** 2
    arithmetic = (energies[:, 0] + shifts) * rows * torch.finfo(torch.float64).eps
    floors = torch.maximum(rounding, arithmetic)
    if basis != "weight" and weight.dtype != torch.float64:
        products = (sums + shifts) * columns / rows * torch.finfo(torch.float32).eps ** 2
        floors = torch.maximum(floors, products)
    return floors
