"""Replace the linear layers of a model by their factors."""

import copy

import torch
from torch import Tensor, nn

from arsvd.layers import linear_layers, replace_layer
from arsvd.lowrank import LowRankLinear
from arsvd.planning import Plan
from arsvd.spectrum import Spectra, Spectrum


def factors(spectrum: Spectrum, layer: nn.Linear, rank: int) -> tuple[Tensor, Tensor, Tensor | None]:
    """Truncate one layer: W_r = L_r D_r^T W and b_r = b + (I - L_r D_r^T) mean(Wx), often with D = L = U.

    Args:
        spectrum: the layer's spectrum.
        layer: the layer, (out, in).
        rank: r, from 1 to the full rank.

    Returns:
        left (out, r), right (r, in) and the bias (out,) or None, all float64. Each component's two
        vectors have equal norms: half precision then loses least, and fine-tuning starts balanced.
    """
    weight = layer.weight.detach().double()
    left = spectrum.vectors[:, :rank]
    duals = spectrum.duals[:, :rank]
    right = duals.T @ weight
    bias = None if layer.bias is None else layer.bias.detach().double()
    if spectrum.biased_when_truncated:
        lost = spectrum.mean - left @ (duals.T @ spectrum.mean)
        bias = lost if bias is None else bias + lost
    return *balanced(left, right), bias


def balanced(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Share the norm of each row of `right` (r, in) evenly with the column of `left` (out, r)."""
    norms = right.norm(dim=1)
    scale = torch.where(norms > 0, norms, 1.0).sqrt()
    return left * scale, right / scale[:, None]


def compress(model: nn.Module, spectra: Spectra, plan: Plan) -> nn.Module:
    """Build a compressed copy of a model.

    Args:
        model: the model that the spectra come from; it is not changed.
        spectra: its spectra.
        plan: one rank per layer, made from these spectra.

    Returns:
        A new module of the same kind, in which each planned layer is a `LowRankLinear`; with a model that
        is itself one linear layer, that layer.

    Raises:
        ValueError: the spectra or the plan belong to another model.
    """
    _check_match(model, spectra, plan)
    small = copy.deepcopy(model)
    layers = linear_layers(small, [spectrum.name for spectrum in spectra])
    for spectrum, rank in zip(spectra, plan.ranks, strict=True):
        if rank is None:
            continue
        new = low_rank(spectrum, layers[spectrum.name], rank)
        if layers[spectrum.name] is small:
            return new
        replace_layer(small, layers[spectrum.name], new)
    return small


def low_rank(spectrum: Spectrum, layer: nn.Linear, rank: int) -> LowRankLinear:
    """Build the low-rank layer that takes a layer's place, in its dtype and mode, on its device."""
    return as_layer(layer, *factors(spectrum, layer, rank))


def as_layer(layer: nn.Linear, left: Tensor, right: Tensor, bias: Tensor | None) -> LowRankLinear:
    """Put factors (out, r) and (r, in) into a layer like the given one: its dtype, mode and device."""
    new = LowRankLinear(
        layer.in_features,
        len(right),
        layer.out_features,
        bias is not None,
        layer.weight.device,
        layer.weight.dtype,
    )
    with torch.no_grad():
        new.left.copy_(left)
        new.right.copy_(right)
        if bias is not None and new.bias is not None:
            new.bias.copy_(bias)
    new.requires_grad_(layer.weight.requires_grad)
    return new.train(layer.training)


def _check_match(model: nn.Module, spectra: Spectra, plan: Plan) -> None:
    layers = linear_layers(model, [spectrum.name for spectrum in spectra])
    for spectrum in spectra:
        shape = tuple(layers[spectrum.name].weight.shape)
        if shape != (spectrum.out_features, spectrum.in_features):
            raise ValueError(
                f"the spectrum of layer {spectrum.name!r} is of shape "
                f"{(spectrum.out_features, spectrum.in_features)}, the layer is {shape}"
            )
    if [(p.name, p.out_features, p.in_features) for p in plan.layers] != [
        (s.name, s.out_features, s.in_features) for s in spectra
    ]:
        raise ValueError(
            f"the plan is for layers {[p.name for p in plan.layers]}, "
            f"the spectra for {[s.name for s in spectra]}"
        )
    if plan.basis != spectra.basis:
        raise ValueError(
            f"the plan is in the {plan.basis} basis, the spectra are in the {spectra.basis} basis"
        )
