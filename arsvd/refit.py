"""Fit the layers of a compressed model to the dense one, from what the compressed layers below give them."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from arsvd.batches import EXAMPLE_ROWS, check_labelled
from arsvd.calls import layer_input
from arsvd.compression import balanced, compress
from arsvd.formats.low_rank import LowRankLinear
from arsvd.layers import linear_layers
from arsvd.modes import evaluation_mode, unwrapped
from arsvd.planning import Plan
from arsvd.statistics.spectrum import Spectra, Spectrum

RIDGE = 1e-3


@torch.no_grad()
def refit(
    model: nn.Module, spectra: Spectra, plan: Plan, calibration: Tensor, batch_size: int = 4096
) -> nn.Module:
    """Compress a model layer by layer, correcting each for the errors of those below it.

    A layer's left factor is its spectrum's. Its right factor and bias are the ridge least-squares solution
    that brings the layer's outputs closest to the dense model's outputs, given the inputs that it gets from
    the already compressed layers. Layers that stay dense are fitted as well; layers whose inputs are still
    those of the dense model are truncated as `compress` does it. No labels and no gradients are used.

    Args:
        model: the dense model; it is not changed.
        spectra: its spectra, in any basis.
        plan: one rank per layer.
        calibration: inputs of the model, (rows, …), from the training data.
        batch_size: rows a forward pass takes.

    Returns:
        A new module, of the shape that `compress` gives.

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
        targets = linear_layers(plain, [spectrum.name for spectrum in spectra])
        for spectrum, rank in zip(spectra, plan.ranks, strict=True):
            layer, target = fitted[spectrum.name], targets[spectrum.name]
            if changed:
                _fill(layer, spectrum, *_regress(small, layer, plain, target, batches))
            changed = changed or rank is not None
    return small


def _regress(
    small: nn.Module, layer: nn.Module, model: nn.Module, target: nn.Linear, batches: list[Tensor]
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Solve for the weight (out, in) that maps compressed inputs to dense outputs; with both means."""
    n, m = target.in_features, target.out_features
    device = target.weight.device
    gram = torch.zeros(n, n, dtype=torch.float64, device=device)
    cross = torch.zeros(n, m, dtype=torch.float64, device=device)
    sum_x = torch.zeros(n, dtype=torch.float64, device=device)
    sum_z = torch.zeros(m, dtype=torch.float64, device=device)
    rows = 0
    inputs, outputs = _watched(small, layer, batches, "in"), _watched(model, target, batches, "out")
    for x, z in zip(inputs, outputs, strict=True):
        gram.addmm_(x.T, x)
        cross.addmm_(x.T, z)
        sum_x += x.sum(0)
        sum_z += z.sum(0)
        rows += len(x)
    mean_x, mean_z = sum_x / rows, sum_z / rows
    gram = gram / rows - torch.outer(mean_x, mean_x)
    cross = cross / rows - torch.outer(mean_x, mean_z)
    # the ridge in units of the mean input variance; inputs that are constant keep their trained weights
    level = RIDGE * float(gram.diagonal().mean()) or 1.0
    gram.diagonal().add_(level)
    weight = torch.linalg.solve(gram, cross + level * target.weight.double().T).T
    return weight, (mean_x, mean_z)


def _watched(model: nn.Module, layer: nn.Module, batches: list[Tensor], side: str) -> Iterator[Tensor]:
    """Yield a layer's inputs or outputs (rows, features) in float64, a batch at a time."""
    seen: list[Tensor] = []

    def record(_: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any], outputs: Tensor) -> None:
        # cloned: what follows may work in place
        seen.append((layer_input(arguments, keywords) if side == "in" else outputs).detach().clone())

    # before the model's own hooks, which may change the outputs
    handle = layer.register_forward_hook(record, prepend=True, with_kwargs=True)
    try:
        for batch in batches:
            seen.clear()
            model(batch)
            yield torch.cat([part.reshape(-1, part.shape[-1]) for part in seen]).double()
    finally:
        handle.remove()


def _fill(layer: nn.Module, spectrum: Spectrum, weight: Tensor, means: tuple[Tensor, Tensor]) -> None:
    """Put a fitted weight (out, in) into a layer, dense or of two factors, with the bias that fits it."""
    mean_x, mean_z = means
    if isinstance(layer, LowRankLinear):
        left = spectrum.vectors[:, : layer.rank]
        right = spectrum.duals[:, : layer.rank].T @ weight
        if layer.bias is not None:
            layer.bias.copy_(mean_z - left @ (right @ mean_x))
        left, right = balanced(left, right)
        layer.left.copy_(left)
        layer.right.copy_(right)
    elif isinstance(layer, nn.Linear) and layer.bias is not None:
        # a dense layer must not grow: without a bias it stays as it was trained
        layer.weight.copy_(weight)
        layer.bias.copy_(mean_z - weight @ mean_x)
