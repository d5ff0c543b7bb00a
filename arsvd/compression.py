"""Replace the linear layers of a model by their factors."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arsvd.calls import carry
from arsvd.copying import ExampleError, check_copy, copied, own_example
from arsvd.formats.low_rank import LowRankLinear
from arsvd.layers import linear_layers, replace_layer
from arsvd.modes import unwrapped
from arsvd.planning import Plan
from arsvd.statistics.spectrum import Spectra, Spectrum


def factors(spectrum: Spectrum, layer: nn.Linear, rank: int) -> tuple[Tensor, Tensor, Tensor | None]:
    """Truncate one layer: W_r = L_r D_r^T W and b_r = b + (I - L_r D_r^T) mean(Wx), often with D = L = U.

    Args:
        spectrum: the layer's spectrum.
        layer: the layer, (out, in), on any device.
        rank: r, from 1 to the full rank.

    Returns:
        left (out, r), right (r, in) and the bias (out,) or None, all float64. Each component's two
        vectors have equal norms: half precision then loses least, and fine-tuning starts balanced.
    """
    weight = layer.weight.detach().double()
    # the spectrum may come from a GPU that the layer has left since
    left = spectrum.vectors[:, :rank].to(weight.device)
    duals = spectrum.duals[:, :rank].to(weight.device)
    right = duals.T @ weight
    bias = None if layer.bias is None else layer.bias.detach().double()
    if spectrum.biased_when_truncated:
        mean = spectrum.mean.to(weight.device)
        lost = mean - left @ (duals.T @ mean)
        bias = lost if bias is None else bias + lost
    return *balanced(left, right), bias


def balanced(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Share the norm of each row of `right` (r, in) evenly with the column of `left` (out, r)."""
    norms = right.norm(dim=1)
    scale = torch.where(norms > 0, norms, 1.0).sqrt()
    return left * scale, right / scale[:, None]


def compress(model: nn.Module, spectra: Spectra, plan: Plan, example: Tensor | None = None) -> nn.Module:
    """Build a compressed copy of a model.

    Hooks and attributes of a replaced layer go over to the new one. With inputs at hand the copy is run
    beside the model before its layers lose anything: it must use its own layers, those that the model uses,
    and give the same outputs. Without, a model is refused whose copy may depend on the original.

    Args:
        model: the model that the spectra come from; it is not changed.
        spectra: its spectra.
        plan: one rank per layer, made from these spectra.
        example: inputs (rows, …) to check the copy with; by default some that the spectra were made with.

    Returns:
        A new module of the same kind, in which each planned layer is a `LowRankLinear`; with a model that
        is itself one linear layer, that layer. It is neither compiled nor wrapped for data parallelism.

    Raises:
        ValueError: the spectra or the plan belong to another model, the model cannot be copied, or its copy
            would not do what it does.
    """
    with torch.inference_mode(False), unwrapped(model) as plain:
        layers = _checked_layers(plain, spectra, plan)
        small = copied(plain)
        dense = linear_layers(small, list(layers))
        new: dict[str, LowRankLinear] = {}
        for spectrum, rank in zip(spectra, plan.ranks, strict=True):
            if rank is not None:
                new[spectrum.name] = low_rank(spectrum, dense[spectrum.name], rank)
                small = _with(small, dense[spectrum.name], new[spectrum.name])
        for name, layer in new.items():
            _begin_standing_in(layer, dense[name])
        try:
            pairs = {name: (layers[name], layer) for name, layer in new.items()}
            gone = [dense[name] for name in new]
            kept = own_example(plain) if spectra.example is None else spectra.example
            try:
                check_copy(plain, small, pairs, gone, kept if example is None else example)
            except ExampleError:
                if example is not None:
                    raise
                check_copy(plain, small, pairs, gone, None)  # the model has another dtype or device since
        finally:
            for layer in new.values():
                _end_standing_in(layer)
    return small


def _with(model: nn.Module, old: nn.Module, new: nn.Module) -> nn.Module:
    if old is model:
        return new
    replace_layer(model, old, new)
    return model


class _StandIn(LowRankLinear):
    """A low-rank layer that computes what the dense one did, for as long as the copy is checked."""

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, *self._dense())

    @property
    def weight(self) -> Tensor:
        return self._dense()[0]

    @property
    def bias(self) -> Tensor | None:  # type: ignore[override]
        return self._dense()[1]

    def _dense(self) -> tuple[Tensor, Tensor | None]:
        found: tuple[Tensor, Tensor | None] = vars(self)["_stands_for"]
        return found


def _begin_standing_in(layer: LowRankLinear, dense: nn.Linear) -> None:
    vars(layer)["_stands_for"] = dense.weight, dense.bias
    layer.__class__ = _StandIn


def _end_standing_in(layer: LowRankLinear) -> None:
    layer.__class__ = LowRankLinear
    vars(layer).pop("_stands_for", None)


def low_rank(spectrum: Spectrum, layer: nn.Linear, rank: int) -> LowRankLinear:
    """Build the low-rank layer that takes a layer's place, in its dtype and mode, on its device."""
    return as_layer(layer, *factors(spectrum, layer, rank))


def as_layer(layer: nn.Linear, left: Tensor, right: Tensor, bias: Tensor | None) -> LowRankLinear:
    """Put factors (out, r) and (r, in) into a layer like the given one: its dtype, mode, device and hooks."""
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
    carry(layer, new)
    return new.train(layer.training)


def _checked_layers(model: nn.Module, spectra: Spectra, plan: Plan) -> dict[str, nn.Linear]:
    """Return the layers that spectra and a plan are of, by name, and see that all three belong together."""
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
    return layers
