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
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from arsvd.curvature import output_fisher
from arsvd.layers import linear_layers
from arsvd.modes import evaluation_mode

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
        total = float(self.energy.sum())
        if rank is None or total == 0.0:
            return 1.0
        return float(self.energy[:rank].sum()) / total


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
    basis = basis or ("weight" if calibration is None else "activation")
    if basis not in BASES:
        raise ValueError(f"unknown basis {basis!r}; there are {', '.join(BASES)}")
    if (basis == "weight") != (calibration is None):
        needs = "takes no" if basis == "weight" else "needs"
        raise ValueError(f"the {basis} basis {needs} calibration inputs")
    found = linear_layers(model, layers)
    for name, layer in found.items():
        if not bool(torch.isfinite(layer.weight).all()):
            raise ValueError(f"layer {name!r} holds NaN or infinite weights; it cannot be factorised")
    if calibration is None:
        results = [_weight_spectrum(name, layer) for name, layer in found.items()]
    else:
        batches = list(_batches(calibration, batch_size))
        moments = _output_moments(model, found, batches)
        metrics = output_fisher(model, found, batches) if basis == "loss" else {}
        results = [
            _output_spectrum(name, layer, basis, moments[name], metrics.get(name))
            for name, layer in found.items()
        ]
    inside = sum(s.params(None) for s in results)
    return Spectra(
        basis=basis,
        layers=tuple(results),
        other_params=sum(p.numel() for p in model.parameters()) - inside,
    )


def _weight_spectrum(name: str, layer: nn.Linear) -> Spectrum:
    weight = layer.weight.detach().double()
    return _decompose(name, layer, "weight", weight @ weight.T, torch.zeros_like(weight[:, 0]))


def _output_spectrum(
    name: str, layer: nn.Linear, basis: str, moments: tuple[int, Tensor, Tensor], metric: Tensor | None
) -> Spectrum:
    rows, total, second = moments
    if rows < 2:
        raise ValueError(f"layer {name!r} saw {rows} calibration rows; a covariance needs at least 2")
    mean = total / rows
    covariance = second / rows - torch.outer(mean, mean)
    if not bool(torch.isfinite(covariance).all()):
        raise ValueError(f"layer {name!r} gives outputs that are not finite on the calibration inputs")
    if metric is None:
        return _decompose(name, layer, basis, covariance, mean)
    values, directions = torch.linalg.eigh(metric)  # positive: the metric is damped
    root = (directions * values.sqrt()) @ directions.T
    inverse = (directions / values.sqrt()) @ directions.T
    plain = _decompose(name, layer, basis, root @ covariance @ root, root @ mean)
    return replace(plain, mean=mean, vectors=inverse @ plain.vectors, dual_vectors=root @ plain.vectors)


def _decompose(name: str, layer: nn.Linear, basis: str, matrix: Tensor, mean: Tensor) -> Spectrum:
    rank = min(layer.out_features, layer.in_features)
    values, vectors = torch.linalg.eigh(matrix)  # ascending
    energy = values.flip(0)[:rank].clamp_min(0.0).cpu()
    energy = torch.where(energy > noise_floor(energy, layer.weight, basis, mean), energy, 0.0)
    return Spectrum(
        name=name,
        basis=basis,
        out_features=layer.out_features,
        in_features=layer.in_features,
        has_bias=layer.bias is not None,
        energy=energy,
        vectors=vectors.flip(1)[:, :rank].contiguous(),
        mean=mean,
    )


def noise_floor(energy: Tensor, weight: Tensor, basis: str, mean: Tensor) -> float:
    """Return the energy below which a component may be rounding and nothing else.

    Three sources, the largest one counts. Rounding a weight of shape (m, n) to its dtype adds independent
    errors of at most u |w|, u the unit roundoff; the largest singular value of such a matrix is about
    u ||W||_F (1/sqrt(m) + 1/sqrt(n)), so its energy is the square of that. (The usual m * eps of
    `matrix_rank` is above 1 for bfloat16 and would call every weight zero.) With calibration inputs,
    sums of n products in float32 are off by up to about eps sqrt(n) of their size, the mean included, and
    the m outputs share that energy. And the eigenvalues of a float64 matrix are exact to about m * eps64
    of its largest, before the mean was taken out.

    Args:
        energy: (k,) descending.
        weight: (m, n), in the dtype that the model stores.
        basis: "weight", "activation" or "loss".
        mean: (m,) of Wx, in the metric of the energies; zeros in the weight basis.
    """
    rows, columns = weight.shape
    roundoff = torch.finfo(weight.dtype).eps / 2
    rounding = float(energy.sum()) * (roundoff * (1 / math.sqrt(rows) + 1 / math.sqrt(columns))) ** 2
    shift = float(mean.square().sum())
    arithmetic = (float(energy[0]) + shift) * rows * torch.finfo(torch.float64).eps
    if basis != "weight" and weight.dtype != torch.float64:
        products = (float(energy.sum()) + shift) * columns / rows * torch.finfo(torch.float32).eps ** 2
        return max(rounding, arithmetic, products)
    return max(rounding, arithmetic)


def _output_moments(
    model: nn.Module, layers: dict[str, nn.Linear], batches: Iterable[Tensor]
) -> dict[str, tuple[int, Tensor, Tensor]]:
    """Run the model and sum z and z z^T of every layer's z = Wx (without bias), in float64."""
    counts = dict.fromkeys(layers, 0)
    totals = {
        n: torch.zeros(m.out_features, dtype=torch.float64, device=m.weight.device) for n, m in layers.items()
    }
    seconds = {n: torch.outer(t, t) for n, t in totals.items()}

    def watch(name: str, layer: nn.Linear) -> torch.utils.hooks.RemovableHandle:
        # in float32 also for half-precision models: rounding z to bfloat16 would add noise of its own
        weight = layer.weight.detach()
        weight = weight if weight.dtype == torch.float64 else weight.float()

        def record(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            rows = arguments[0].detach().reshape(-1, layer.in_features).to(weight.dtype)
            outputs = (rows @ weight.T).double()
            counts[name] += len(outputs)
            totals[name] += outputs.sum(0)
            seconds[name].addmm_(outputs.T, outputs)

        return layer.register_forward_pre_hook(record)

    handles = [watch(name, layer) for name, layer in layers.items()]
    try:
        with evaluation_mode(model), torch.no_grad():
            for batch in batches:
                _run(model, batch)
    finally:
        for handle in handles:
            handle.remove()
    silent = [name for name, count in counts.items() if count == 0]
    if silent:
        raise ValueError(
            f"layers {silent} never ran on the calibration inputs; "
            f"pass layers=[...] without them to leave them dense"
        )
    return {name: (counts[name], totals[name], seconds[name]) for name in layers}


def _batches(calibration: Tensor | Iterable[Tensor], batch_size: int) -> Iterator[Tensor]:
    if isinstance(calibration, Tensor):
        if calibration.ndim < 1 or len(calibration) < 2:
            raise ValueError(
                f"calibration needs at least 2 rows of inputs, "
                f"got a tensor of shape {tuple(calibration.shape)}"
            )
        yield from calibration.split(batch_size)
        return
    for batch in calibration:
        if not isinstance(batch, Tensor):
            raise TypeError(
                f"calibration batches must be tensors of inputs, got a {type(batch).__name__}; "
                f"of a loader that also gives labels, pass (inputs for inputs, _ in loader)"
            )
        yield batch


def _run(model: nn.Module, batch: Tensor) -> None:
    try:
        model(batch)
    except (RuntimeError, TypeError, IndexError) as error:
        raise ValueError(
            f"the model does not take calibration inputs of shape {tuple(batch.shape)} "
            f"and {batch.dtype}: {error}"
        ) from error
