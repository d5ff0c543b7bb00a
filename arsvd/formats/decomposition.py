"""One symmetric eigendecomposition per site, for all sites of one shape at once."""

from collections.abc import Sequence

import torch
from torch import Tensor

from arsvd.statistics.noise import noise_floor
from arsvd.statistics.observed import Observed, damped
from arsvd.statistics.spectrum import Spectrum


def decompose(format: str, basis: str, observed: Sequence[Observed]) -> list[Spectrum]:
    """Factorise sites of one shape, dtype and device; the host waits once for all of them.

    Args:
        format: name of the format that the spectra are for.
        basis: name of the basis.
        observed: sites, with the moments of their outputs where the basis is calibrated, and the metric of
            their errors where the basis has one.

    Raises:
        ValueError: fewer than two rows were seen, or outputs are not finite.
    """
    site = observed[0].site
    matrices = torch.stack([each.site.matrix for each in observed]).double()
    means = torch.zeros_like(matrices[..., 0])
    second = None
    if observed[0].moments is not None:
        second, means = _covariances(observed)
    metrics = [damped(each.metric) for each in observed if each.metric is not None]
    metric = torch.stack(metrics) if metrics else None
    values, vectors, duals, shifts = _components(matrices, second, means, metric)
    if site.groups > 1:  # rank r keeps the first r components of each group
        values, shifts = values.sum(1), shifts.sum(1)
        vectors, means = vectors.flatten(1, 2), means.flatten(1)
        duals = None if duals is None else duals.flatten(1, 2)
    read = torch.cat([values, shifts[:, None]], dim=1).cpu()
    energies, shifts = read[:, :-1], read[:, -1]
    floors = noise_floor(energies, site.weight.flatten(1), basis, shifts)
    energies = torch.where(energies > floors[:, None], energies, 0.0)
    return [
        Spectrum(
            name=each.name,
            basis=basis,
            out_features=site.out_features,
            in_features=site.in_features,
            has_bias=each.site.bias is not None,
            # copies: views would keep the tensors of all layers alive, and files would hold them whole
            energy=energies[index].clone(),
            vectors=vectors[index].clone(memory_format=torch.contiguous_format),
            mean=means[index].clone(),
            dual_vectors=None if duals is None else duals[index].clone(),
            format=format,
            site=site.name,
            groups=site.groups,
            positions=each.positions,
        )
        for index, each in enumerate(observed)
    ]


def _covariances(observed: Sequence[Observed]) -> tuple[Tensor, Tensor]:
    """Return covariances and means of Wx, (sites, …, out, out) and (sites, …, out)."""
    rows, totals, seconds = [], [], []
    for each in observed:
        if each.moments is not None:
            rows.append(each.moments.rows)
            totals.append(each.moments.total)
            seconds.append(each.moments.second)
    if min(rows) < 2:
        name = observed[rows.index(min(rows))].name
        raise ValueError(f"layer {name!r} saw {min(rows)} calibration rows; a covariance needs at least 2")
    total, second = torch.stack(totals), torch.stack(seconds)
    count = torch.tensor(rows, dtype=total.dtype, device=total.device).view(-1, *[1] * (total.ndim - 1))
    means = total / count
    covariances = second / count[..., None] - means[..., :, None] * means[..., None, :]
    finite = torch.isfinite(covariances).flatten(1).all(1).tolist()
    if not all(finite):
        name = observed[finite.index(False)].name
        raise ValueError(f"layer {name!r} gives outputs that are not finite on the calibration inputs")
    return covariances, means


def _components(
    weights: Tensor, second: Tensor | None, means: Tensor, metric: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """Decompose second moments of Wx, in the metric if there is one, on the smaller side of W.

    Args:
        weights: float64 matrices W, (…, out, in).
        second: symmetric second moments of Wx, (…, out, out); W W^T when None.
        means: mean vectors of Wx, (…, out).
        metric: symmetric positive definite matrices, (…, out, out); None where all errors count alike.

    Returns:
        Energies (…, k), descending; vectors (…, out, k); their duals, None where they are the same; and the
        squared norms of the means in the metric.
    """
    rank = min(weights.shape[-2:])
    if metric is None:
        values, vectors = _decomposed(weights, second, rank)
        return values, vectors, None, means.square().sum(-1)
    if weights.shape[-1] < weights.shape[-2]:
        root = torch.linalg.cholesky(metric, upper=True)  # T with T^T T = F
        one = torch.eye(root.shape[-1], dtype=root.dtype, device=root.device)
        inverse = torch.linalg.solve_triangular(root, one.expand_as(root), upper=True)
    else:
        levels, directions = torch.linalg.eigh(metric)  # positive: the metric is damped
        scale = levels.sqrt()[..., None, :]
        root, inverse = (directions * scale) @ directions.mT, (directions / scale) @ directions.mT
    seen = (root @ means[..., None])[..., 0]
    inside = None if second is None else root @ second @ root.mT
    values, vectors = _decomposed(root @ weights, inside, rank)
    return values, inverse @ vectors, root.mT @ vectors, seen.square().sum(-1)


def _decomposed(weights: Tensor, second: Tensor | None, rank: int) -> tuple[Tensor, Tensor]:
    """Decompose a matrix (…, out, out) whose range is within that of the weights (…, out, in)."""
    frame = None
    if weights.shape[-1] < weights.shape[-2]:
        frame = torch.linalg.qr(weights).Q  # (…, out, in)
        weights = frame.mT @ weights
        second = None if second is None else frame.mT @ second @ frame
    values, vectors = torch.linalg.eigh(weights @ weights.mT if second is None else second)  # ascending
    values, vectors = values.flip(-1)[..., :rank].clamp_min(0.0), vectors.flip(-1)[..., :rank]
    return values, vectors if frame is None else frame @ vectors
