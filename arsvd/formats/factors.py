"""The factors of a site at a rank."""

import torch
from torch import Tensor, nn

from arsvd.sites import Site
from arsvd.statistics.spectrum import Spectrum


def factors(spectrum: Spectrum, site: Site, rank: int, biased: bool) -> tuple[Tensor, Tensor, Tensor | None]:
    """Truncate one site: W_r = L_r D_r^T W and b_r = b + (I - L_r D_r^T) mean(Wx), often with D = L = U.

    Args:
        spectrum: spectrum of the site.
        site: site to truncate, on any device.
        rank: number of components per group, from 1 to the spectrum's largest.
        biased: True if the truncated layer has a bias.

    Returns:
        left (out, r), right (r, in) or (groups, r, in), and the bias (out,) or None, all float64. The two
        vectors of each component have equal norms: this loses the least in half precision, and fine-tuning
        starts balanced.
    """
    matrix = site.matrix.double()
    # the spectrum may be on a GPU that the layer has left since
    left, duals = (
        site.grouped(tensor[:, :rank].to(matrix.device)) for tensor in (spectrum.vectors, spectrum.duals)
    )
    right = duals.mT @ matrix
    bias = None if site.bias is None else site.bias.double()
    if biased:
        mean = site.grouped(spectrum.mean.to(matrix.device))
        lost = (mean - times(left, times(duals.mT, mean))).flatten()
        bias = lost if bias is None else bias + lost
    left, right = balanced(left, right)
    return left.reshape(-1, left.shape[-1]), right, bias


def times(matrix: Tensor, vector: Tensor) -> Tensor:
    """Multiply a matrix (…, m, n) by a vector (…, n)."""
    return matrix @ vector if matrix.ndim == 2 else (matrix @ vector[..., None])[..., 0]


def balanced(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Share the norm of each row of `right` (…, r, in) evenly with the column of `left` (…, out, r)."""
    norms = right.norm(dim=-1)
    scale = torch.where(norms > 0, norms, 1.0).sqrt()
    return left * scale[..., None, :], right / scale[..., None]


@torch.no_grad()
def filled(site: Site, left: Tensor, right: Tensor, bias: Tensor | None) -> nn.Module:
    """Make the layer of two factors with these numbers.

    Args:
        site: site whose layer it replaces.
        left: left factor (out, r).
        right: right factor (r, in), or (groups, r, in).
        bias: bias (out,); None for a layer without one.
    """
    layer = site.pair(left.shape[1], bias is not None)
    parameters = dict(layer.named_parameters())
    parameters["left"].copy_(left)
    parameters["right"].copy_(right.reshape(parameters["right"].shape))
    if bias is not None:
        parameters["bias"].copy_(bias)
    return layer
