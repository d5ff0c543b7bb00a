"""Find the linear layers of a module, and put others in their place."""

from collections.abc import Iterable
from typing import TypeGuard

from torch import nn


def linear_layers(model: nn.Module, names: Iterable[str] | None = None) -> dict[str, nn.Linear]:
    """List the `nn.Linear` layers of a model at any depth, in the order of registration.

    Subclasses of `nn.Linear` are left alone: their owners read their weights directly (the output
    projection of `nn.MultiheadAttention` is one) or change them on the fly (parametrisations), and a pair
    of factors would not be seen. So are layers whose weight is no parameter but computed (pruning). One
    layer registered under several names is listed once, by its first.

    Args:
        model: any module; itself a linear layer under the name "".
        names: the layers wanted; all when None.

    Returns:
        Name to layer.

    Raises:
        ValueError: there is no such layer, none at all, or two layers share one weight or bias.
    """
    found = {name: module for name, module in model.named_modules() if _is_plain(module)}
    if names is not None:
        wanted = list(names)
        missing = [name for name in wanted if name not in found]
        if missing:
            raise ValueError(f"no linear layer is named {missing}; the model has {list(found)}")
        found = {name: layer for name, layer in found.items() if name in wanted}
    if not found:
        raise ValueError(f"{type(model).__name__} holds no nn.Linear layer, so there is nothing to factorise")
    _refuse_shared_weights(model, found)
    return found


def _is_plain(module: nn.Module) -> TypeGuard[nn.Linear]:
    return type(module) is nn.Linear and "weight" in module._parameters


def _refuse_shared_weights(model: nn.Module, layers: dict[str, nn.Linear]) -> None:
    owners: dict[int, list[str]] = {}
    for path, module in model.named_modules():
        for parameter in module._parameters.values():
            if parameter is not None:
                owners.setdefault(id(parameter), []).append(path)
    for name, layer in layers.items():
        for kind, parameter in layer.named_parameters():
            others = [repr(owner) for owner in owners[id(parameter)] if owner != name]
            if others:
                raise ValueError(
                    f"layer {name!r} shares its {kind} with {', '.join(others)}: factors would untie them. "
                    f"Pass layers=[...] without it to leave it dense, or give each layer a {kind} of its own"
                )


def replace_layer(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put `new` wherever `old` is registered in `model`, on its parents, under the same names.

    Args:
        model: the module to change in place; must not be `old` itself.
        old: the layer to remove.
        new: the layer to put there.

    Raises:
        ValueError: `old` is not inside `model`.
    """
    replaced = 0
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            if child is old:
                parent._modules[name] = new
                replaced += 1
    if replaced == 0:
        raise ValueError(f"the layer {old} is not a part of the model {type(model).__name__}")
