"""Find the linear layers of a module, and put others in their place."""

from collections.abc import Iterable, Mapping

import torch
from torch import nn

from arsvd.calls import obstacle

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_SHOWN = 5


def linear_layers(model: nn.Module, names: Iterable[str] | None = None) -> dict[str, nn.Linear]:
    """List the `nn.Linear` layers of a model that can be factorised, in the order of registration.

    `survey` tells which other layers there are and why they are left alone. One layer registered under
    several names is listed once, by its first.

    Args:
        model: any module; itself a linear layer under the name "".
        names: the layers wanted; all when None.

    Returns:
        Name to layer.

    Raises:
        ValueError: a wanted layer is not there or cannot be factorised, or there is none at all.
    """
    found, skipped = survey(model)
    if names is not None:
        wanted = list(names)
        if missing := [name for name in wanted if name not in found and name not in skipped]:
            raise ValueError(f"no linear layer is named {missing}; the model has {[*found, *skipped]}")
        for name in wanted:
            if name in skipped:
                raise ValueError(f"layer {name!r} cannot be factorised: {skipped[name]}")
        found = {name: layer for name, layer in found.items() if name in wanted}
    if not found:
        raise ValueError(
            f"{type(model).__name__} holds no nn.Linear layer, so there is nothing to factorise"
            + (f"; left dense: {listed(skipped.items())}" if skipped else "")
        )
    return found


def survey(model: nn.Module) -> tuple[dict[str, nn.Linear], dict[str, str]]:
    """List the linear layers of a model, those that can be factorised apart from those that stay dense.

    Left alone are layers where a pair of factors would not be seen, or would not do the same: subclasses of
    `nn.Linear`, whose owners read their weights directly (the output projection of `nn.MultiheadAttention`
    is one); weights that are computed (parametrisations, pruning); weights or biases that others hold as
    well; and layers with an instance of their own kind of call. Hooks alone are no reason: they are carried
    over.

    Args:
        model: any module at all.

    Returns:
        Name to layer, and name to the reason why a layer is left alone.

    Raises:
        ValueError: the model is a TorchScript module, whose layers cannot be replaced.
    """
    if isinstance(model, torch.jit.ScriptModule):
        raise ValueError(
            f"{type(model).__name__} is a TorchScript module, whose layers cannot be replaced: "
            f"take the module that it was made from"
        )
    owners = _owners(model)
    found: dict[str, nn.Linear] = {}
    skipped: dict[str, str] = {}
    scripted: list[str] = []
    for name, module in model.named_modules():
        if any(name.startswith(f"{outer}.") for outer in scripted):
            continue
        if isinstance(module, torch.jit.ScriptModule):
            scripted.append(name)
            skipped[name] = "a TorchScript module, whose layers cannot be replaced"
        elif isinstance(module, nn.Linear):
            reason = _numbers_fault(module) or obstacle(module) or _tie(name, module, owners)
            if reason is None:
                found[name] = module
            else:
                skipped[name] = reason
    return found, skipped


def listed(skipped: Iterable[tuple[str, str]], shown: int = _SHOWN) -> str:
    """Write layers with their reasons in one line, the first few of them."""
    items = [f"{name or 'the model'} ({reason})" for name, reason in skipped]
    more = f" and {len(items) - shown} more" if len(items) > shown else ""
    return ", ".join(items[:shown]) + more


def _numbers_fault(layer: nn.Linear) -> str | None:
    """Say why a layer's weight and bias are not plain numbers of its own."""
    kind = type(layer)
    if nn.utils.parametrize.is_parametrized(layer):
        return "its weight or bias is computed by a parametrisation"
    if isinstance(layer, nn.modules.lazy.LazyModuleMixin) and layer.has_uninitialized_params():
        return "its shape is not known before it has run"
    if kind is not nn.Linear:
        return f"a {kind.__name__}, whose owner may read its weight directly"
    if "weight" not in layer._parameters:
        return "its weight is computed by a hook, as pruning and weight norm do"
    held = (*layer._parameters, *layer._buffers, *layer._modules)
    further = [name for name in held if name not in ("weight", "bias")]
    if further or "bias" not in layer._parameters:
        return f"it holds {', '.join(further) or 'a bias'} beside its weight"
    for name, parameter in layer._parameters.items():
        if parameter is None:
            continue
        if type(parameter) is not nn.Parameter or parameter.layout is not torch.strided:
            return f"its {name} is a {type(parameter).__name__}"
        if not (parameter.dtype in DTYPES or parameter.is_complex()):
            return f"its {name} is of {parameter.dtype}"
        if parameter.numel() == 0:
            return f"its {name} holds no numbers"
    return None


def check_numbers(model: nn.Module, layers: Mapping[str, nn.Linear]) -> None:
    """Refuse layers whose numbers cannot be factorised.

    Args:
        model: the model.
        layers: those of it that are to be factorised, by name.

    Raises:
        ValueError: a number is NaN, infinite, complex or not there (meta tensors), or the model was made in
            inference mode.
    """
    if any(tensor.is_inference() for tensor in (*model.parameters(), *model.buffers())):
        raise ValueError(
            f"{type(model).__name__} was made in torch.inference_mode(), where torch lets nobody change its "
            f"numbers later: make it outside, or under torch.no_grad()"
        )
    for name, layer in layers.items():
        numbers = list(layer.parameters())
        if any(parameter.is_meta for parameter in numbers):
            raise ValueError(f"layer {name!r} holds no numbers, it is on the meta device: load its weights")
        if any(parameter.is_complex() for parameter in numbers):
            raise ValueError(f"layer {name!r} holds complex weights; only real ones can be factorised")
        finite = torch.stack([torch.isfinite(parameter).all() for parameter in numbers]).tolist()
        if not all(finite):
            kind = "weights" if not finite[0] else "biases"
            raise ValueError(f"layer {name!r} holds NaN or infinite {kind}; it cannot be factorised")


def _owners(model: nn.Module) -> dict[int, list[tuple[str, str]]]:
    """Map each parameter to all modules that hold it, by path, and to its names there."""
    owners: dict[int, list[tuple[str, str]]] = {}
    for path, module in model.named_modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                owners.setdefault(id(parameter), []).append((path, name))
    return owners


def _tie(name: str, layer: nn.Linear, owners: dict[int, list[tuple[str, str]]]) -> str | None:
    for kind, parameter in layer._parameters.items():
        if parameter is None or len(owners[id(parameter)]) == 1:
            continue
        others = [
            path if own == kind else f"{path}.{own}".strip(".")
            for path, own in owners[id(parameter)]
            if (path, own) != (name, kind)
        ]
        return f"its {kind} is tied to {', '.join(others)}"
    return None


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
