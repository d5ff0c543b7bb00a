"""The weights of several dense MLPs, stacked in tensors with a leading members dimension."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arsvd.calls import called_plainly
from arsvd.mlp import MLP
from arsvd.modes import inner

# No half precision: stacked products would not round where single layers do.
DTYPES = (torch.float32, torch.float64)

# What members must have in common: number of layers, inputs, classes, dtype, device.
Kind = tuple[int, int, int, torch.dtype, torch.device]


def dense_chain(model: nn.Module) -> dict[str, nn.Linear] | None:
    """List the layers of a model that computes linear, ReLU, linear, … on flattened inputs, and nothing else.

    Args:
        model: any module.

    Returns:
        The layers by name, from the input to the output; None where the model is anything else: not an `MLP`,
        compressed, changed, hooked, or in half precision.
    """
    model = inner(model)
    if not isinstance(model, MLP) or type(model).forward is not nn.Sequential.forward:
        return None
    modules = [(name, module) for name, module in model.named_children() if type(module) is not nn.Dropout]
    expected: list[type[nn.Module]] = [
        nn.Flatten,
        *[nn.Linear, nn.ReLU] * ((len(modules) - 1) // 2),
        nn.Linear,
    ]
    if [type(module) for _, module in modules] != expected:
        return None
    if not all(map(called_plainly, model.modules())):
        return None
    layers = {name: layer for name, layer in model.layers.items() if isinstance(layer, nn.Linear)}
    alike = {(layer.weight.dtype, layer.weight.device) for layer in layers.values()}
    if len(alike) > 1 or next(iter(alike))[0] not in DTYPES:
        return None
    return layers


def kind_of(layers: dict[str, nn.Linear]) -> Kind:
    """Return what models must have in common to be stacked; their hidden widths may differ.

    Args:
        layers: layers of a model, as `dense_chain` returns them.
    """
    listed = list(layers.values())
    first, last = listed[0], listed[-1]
    return (len(layers), first.in_features, last.out_features, first.weight.dtype, first.weight.device)


def stacked_layers(chains: Sequence[dict[str, nn.Linear]]) -> list[tuple[Tensor, Tensor]]:
    """Stack the weights of members, padding those of narrower members with zeros.

    A padded unit has zero weights and a zero bias: its outputs and all gradients through it are zero.

    Args:
        chains: layers of each member, all of one kind; see `kind_of`.

    Returns:
        Weights (members, out, in) and biases (members, 1, out) of each layer.
    """
    found = []
    for layers in zip(*(chain.values() for chain in chains), strict=True):
        weights = stacked([layer.weight.detach() for layer in layers])
        biases = stacked(
            [
                layer.weight.new_zeros(layer.out_features) if layer.bias is None else layer.bias.detach()
                for layer in layers
            ]
        )
        found.append((weights, biases[:, None]))
    return found


def stacked(tensors: Sequence[Tensor]) -> Tensor:
    """Stack tensors of equal numbers of dimensions, padding the smaller ones with zeros at their ends."""
    shape = [max(sizes) for sizes in zip(*(tensor.shape for tensor in tensors), strict=True)]
    return torch.stack([_padded(tensor, shape) for tensor in tensors])


def _padded(tensor: Tensor, shape: Sequence[int]) -> Tensor:
    missing = [wanted - size for wanted, size in zip(shape, tensor.shape, strict=True)]
    if not any(missing):
        return tensor
    return F.pad(tensor, [number for count in reversed(missing) for number in (0, count)])
