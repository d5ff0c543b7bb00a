"""Fit the layers of a compressed model to the dense one, given the outputs of the compressed layers below."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from arsvd.batches import EXAMPLE_ROWS, check_labelled
from arsvd.calls import layer_input
from arsvd.compression import compress
from arsvd.formats import LOW_RANK
from arsvd.formats.factors import balanced, times
from arsvd.modes import evaluation_mode, unwrapped
from arsvd.planning import Plan
from arsvd.sites import Site
from arsvd.sites.finding import find_sites, site_of
from arsvd.statistics.spectrum import Spectra, Spectrum

RIDGE = 1e-3


@torch.no_grad()
def refit(
    model: nn.Module, spectra: Spectra, plan: Plan, calibration: Tensor, batch_size: int = 4096
) -> nn.Module:
    """Compress a model layer by layer, correcting each for the errors of those below it.

    The left factor of a layer comes from its spectrum. Its right factor and bias are the ridge least-squares
    solution that brings the layer's outputs closest to the dense model's outputs, given the inputs that it
    gets from the already compressed layers. Layers that stay dense are fitted as well; layers whose inputs
    are still those of the dense model are truncated as in `compress`. No labels and no gradients are used.

    Args:
        model: dense model; it is not changed.
        spectra: spectra of the model, in any basis.
        plan: plan with one rank per layer.
        calibration: inputs of the model (rows, …), from the training data.
        batch_size: rows per forward pass.

    Returns:
        A new module like the one that `compress` returns.

    Raises:
        ValueError: fewer than two rows.

    Source:
        Least squares towards the dense responses from compressed inputs: Zhang et al. 2015
        (arXiv 1505.06798), there for convolutions. Here the left factor stays fixed, so that one solve
        serves every rank, and the ridge pulls towards the trained weight instead of zero.
    """
    check_labelled(calibration, calibration)
    if len(calibration) < 2:
        raise ValueError(f"refitting needs at least 2 rows of inputs, got {len(calibration)}")
    batches = list(calibration.split(batch_size))
    small = compress(model, spectra, plan, calibration[:EXAMPLE_ROWS])
    fitted = dict(small.named_modules())
    changed = False
    with unwrapped(model) as plain, evaluation_mode(small), evaluation_mode(plain):
        targets = find_sites(plain, [spectrum.name for spectrum in spectra])
        for spectrum, rank in zip(spectra, plan.ranks, strict=True):
            layer, target = fitted[spectrum.name], targets[spectrum.name]
            if changed and (rank is None or spectrum.format == LOW_RANK):
                _fill(layer, target, spectrum, *_regress(small, layer, plain, target, batches))
            changed = changed or rank is not None
    return small


def _regress(
    small: nn.Module, layer: nn.Module, model: nn.Module, target: Site, batches: list[Tensor]
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Solve for the matrix that maps compressed inputs to dense outputs; return it with the means of both."""
    matrix = target.matrix.double()
    *groups, m, n = matrix.shape
    gram, cross = matrix.new_zeros(*groups, n, n), matrix.new_zeros(*groups, n, m)
    sum_x, sum_z = matrix.new_zeros(*groups, n), matrix.new_zeros(*groups, m)
    add = torch.Tensor.baddbmm_ if groups else torch.Tensor.addmm_
    rows = 0
    inputs = _watched(small, layer, batches, "in", target.rows)
    outputs = _watched(model, target.layer, batches, "out", target.outputs)
    for x, z in zip(inputs, outputs, strict=True):
        add(gram, x.mT, x)
        add(cross, x.mT, z)
        sum_x += x.sum(-2)
        sum_z += z.sum(-2)
        rows += x.shape[-2]
    mean_x, mean_z = sum_x / rows, sum_z / rows
    gram = gram / rows - mean_x[..., :, None] * mean_x[..., None, :]
    cross = cross / rows - mean_x[..., :, None] * mean_z[..., None, :]
    # the ridge is in units of the mean input variance; inputs that are constant keep their trained weights
    level = RIDGE * float(gram.diagonal(dim1=-2, dim2=-1).mean()) or 1.0
    gram.diagonal(dim1=-2, dim2=-1).add_(level)
    weight = torch.linalg.solve(gram, cross + level * matrix.mT).mT
    return weight, (mean_x, mean_z)


def _watched(
    model: nn.Module, layer: nn.Module, batches: list[Tensor], side: str, view: Callable[[Tensor], Tensor]
) -> Iterator[Tensor]:
    """Yield a layer's inputs or outputs (…, rows, features) in float64, a batch at a time."""
    seen: list[Tensor] = []

    def record(_: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any], outputs: Tensor) -> None:
        # cloned: the next operation may work in place
        seen.append((layer_input(arguments, keywords) if side == "in" else outputs).detach().clone())

    # before the model's own hooks, which may change the outputs
    handle = layer.register_forward_hook(record, prepend=True, with_kwargs=True)
    try:
        for batch in batches:
            seen.clear()
            model(batch)
            yield torch.cat([view(part) for part in seen], dim=-2).double()
    finally:
        handle.remove()


def _fill(
    layer: nn.Module, target: Site, spectrum: Spectrum, matrix: Tensor, means: tuple[Tensor, Tensor]
) -> None:
    """Put a fitted matrix into a layer, dense or of two factors, with the bias that goes with it."""
    mean_x, mean_z = means
    own = site_of(layer)
    if own is None:
        parameters = dict(layer.named_parameters())
        rank = parameters["left"].shape[1]
        left = target.grouped(spectrum.vectors[:, :rank])
        right = target.grouped(spectrum.duals[:, :rank]).mT @ matrix
        if (bias := parameters.get("bias")) is not None:
            bias.copy_((mean_z - times(left, times(right, mean_x))).flatten())
        left, right = balanced(left, right)
        parameters["left"].copy_(left.reshape(parameters["left"].shape))
        parameters["right"].copy_(right.reshape(parameters["right"].shape))
    elif own.bias is not None:
        # a dense layer must not grow: without a bias it stays as it was trained
        own.with_matrix(matrix, (mean_z - times(matrix, mean_x)).flatten())
