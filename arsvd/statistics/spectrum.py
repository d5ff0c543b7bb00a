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
  `arsvd.statistics.curvature`). Its eigenvectors, taken back by R^-1, minimise the expected rise of the loss
  to second order, tr(F E[d d^T]) / 2 nats for an error d. The projection is oblique, W_r = L_r D_r^T W with
  L = R^-1 U and D = R U, and energies of different layers are in one unit.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from arsvd.batches import EXAMPLE_ROWS, calibration_batches
from arsvd.copying import own_example
from arsvd.coverage import Coverage, counted_macs
from arsvd.files.exported import closed_regions
from arsvd.footprint import rows_at_once
from arsvd.layers import check_numbers, linear_layers, survey
from arsvd.modes import unwrapped
from arsvd.statistics import BASES
from arsvd.statistics.moments import output_moments
from arsvd.statistics.noise import noise_floor


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
        return self.has_bias or BASES[self.basis].calibrated

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
        coverage: how much of the model these layers are; None where that was not kept.
        example: a few rows of inputs, to check compressed copies with; None where there were none. They
            are no part of the result: pickles leave them out.
    """

    basis: str
    layers: tuple[Spectrum, ...]
    other_params: int
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
        """Whether energies of different layers are in one unit."""
        return BASES[self.basis].comparable

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
    progress: Callable[[int, int], None] | None = None,
) -> Spectra:
    """Factorise every linear layer of a model that can be factorised.

    Layers that cannot, or that never ran on the calibration inputs, stay dense, and `coverage` says which.
    A model that was compiled, or wrapped for data parallelism, is run without.

    Args:
        model: any module that holds `nn.Linear` layers; it is not changed.
        calibration: inputs of the model, (rows, …), or a list or an iterator of batches of them; at least 2
            rows. They choose the activation basis, if not told otherwise. None chooses the weight basis.
            Every position counts as a row of a layer, that of padding as well.
        layers: names of the layers to factorise; all when None.
        batch_size: the most rows that a forward pass takes when `calibration` is one tensor; fewer where
            the model computes much for each.
        basis: "weight", "activation" or "loss"; the last one is for classifiers and needs a backward pass.
        progress: is told the batches done and the batches in all.

    Returns:
        One spectrum a layer.

    Raises:
        ValueError: a layer holds numbers that are NaN, infinite, complex or not there (meta tensors), or
            has outputs that are not finite; no layer can be factorised, or one that was asked for cannot;
            the model was made in inference mode; fewer than 2 rows, or no batches of inputs that the model
            takes; a basis that is unknown or does not go with the calibration.
        TypeError: a calibration batch is not a tensor.
    """
    basis = chosen_basis(basis, calibration)
    with torch.inference_mode(False), unwrapped(model) as plain:
        found = linear_layers(plain, layers)
        skipped = survey(plain)[1]
        skipped |= {n: "it was not asked for" for n in linear_layers(plain) if n not in found}
        skipped |= {
            region.name: f"a region of the program that stays closed, {region.params:,} numbers"
            for region in closed_regions(plain)
        }
        check_numbers(plain, found)
        if calibration is None:
            example = own_example(plain)
            results = [spectrum for item in found.items() for spectrum in weight_spectra([item])]
        else:
            if isinstance(calibration, Tensor) and calibration.ndim:
                batch_size = rows_at_once(plain, calibration, batch_size)
            batches = list(calibration_batches(calibration, batch_size))
            example = batches[0][:EXAMPLE_ROWS].clone()
            moments = output_moments(plain, found, _told(batches, progress))
            silent = [name for name in found if name not in moments]
            _check_silent(silent, found, asked=layers is not None)
            skipped |= dict.fromkeys(silent, "it never ran on the calibration inputs")
            found = {name: layer for name, layer in found.items() if name in moments}
            results = _calibrated(plain, found, batches, basis, moments)
        places = {name: place for place, (name, _) in enumerate(plain.named_modules())}
        return joined(
            plain,
            basis,
            results,
            sorted(skipped.items(), key=lambda item: places.get(item[0], len(places))),
            counted_macs(plain, found, example),
            example,
        )


def _told(batches: Sequence[Tensor], progress: Callable[[int, int], None] | None) -> Iterator[Tensor]:
    for done, batch in enumerate(batches, start=1):
        yield batch
        if progress is not None:
            progress(done, len(batches))


def _calibrated(
    model: nn.Module,
    layers: dict[str, nn.Linear],
    batches: Sequence[Tensor],
    basis: str,
    moments: dict[str, tuple[int, Tensor, Tensor]],
) -> list[Spectrum]:
    metrics = BASES[basis].metrics(model, layers, batches)
    results = []
    for name, layer in layers.items():
        rows, total, second = moments[name]
        metric = metrics[name][None] if metrics else None
        results += output_spectra([(name, layer)], basis, rows, total[None], second[None], metric)
    return results


def _check_silent(silent: Sequence[str], layers: dict[str, nn.Linear], asked: bool) -> None:
    if silent and asked:
        raise ValueError(
            f"layers {list(silent)} never ran on the calibration inputs; "
            f"pass layers=[...] without them to leave them dense"
        )
    if len(silent) == len(layers):
        raise ValueError(f"no linear layer ran on the calibration inputs; the model has {list(silent)}")


def chosen_basis(basis: str | None, calibration: Tensor | Iterable[Tensor] | None) -> str:
    """Return the basis asked for, or the one that goes with the calibration.

    Raises:
        ValueError: the basis is unknown or does not go with the calibration.
    """
    basis = basis or ("weight" if calibration is None else "activation")
    if BASES[basis].calibrated == (calibration is None):
        needs = "needs" if BASES[basis].calibrated else "takes no"
        raise ValueError(f"the {basis} basis {needs} calibration inputs")
    return basis


def joined(
    model: nn.Module,
    basis: str,
    layers: Sequence[Spectrum],
    skipped: Iterable[tuple[str, str]] = (),
    macs: tuple[float, float] | None = None,
    example: Tensor | None = None,
) -> Spectra:
    """Put a model's spectra together.

    Args:
        model: the model.
        basis: of the spectra.
        layers: one spectrum a layer.
        skipped: layers that stay dense, each with the reason.
        macs: multiplications of one input row, in these layers and in the whole model.
        example: a few rows of inputs.
    """
    inside = sum(spectrum.params(None) for spectrum in layers)
    overall = sum(p.numel() for p in model.parameters())
    own, every = (None, None) if macs is None else macs
    coverage = Coverage(inside, overall, own, every, tuple(skipped))
    return Spectra(basis, tuple(layers), overall - inside, coverage, example)


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
