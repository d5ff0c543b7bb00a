"""Find the sites of a model: the layers that can be compressed, and why the others stay dense."""

from collections.abc import Iterable, Mapping

import torch
from torch import nn

from arsvd.calls import obstacle
from arsvd.sites import SITES, Site

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_SHOWN = 5


def find_sites(model: nn.Module, names: Iterable[str] | None = None) -> dict[str, Site]:
    """List the layers of a model that can be compressed, in the order of registration.

    `survey` tells which other layers there are and why they are left alone. One layer registered under
    several names is listed once, by its first.

    Args:
        model: any module; itself a layer under the name "".
        names: names of the layers wanted; all when None.

    Returns:
        Name to site.

    Raises:
        ValueError: a wanted layer is not there or cannot be compressed, or there is none at all.
    """
    found, skipped = survey(model)
    if names is not None:
        wanted = list(names)
        if missing := [name for name in wanted if name not in found and name not in skipped]:
            raise ValueError(f"no {_kinds()} layer is named {missing}; the model has {[*found, *skipped]}")
        for name in wanted:
            if name in skipped:
                raise ValueError(f"layer {name!r} cannot be factorised: {skipped[name]}")
        found = {name: site for name, site in found.items() if name in wanted}
    if not found:
        raise ValueError(
            f"{type(model).__name__} holds no {_kinds()} layer, so there is nothing to factorise"
            + (f"; left dense: {listed(skipped.items())}" if skipped else "")
        )
    return found


def survey(model: nn.Module) -> tuple[dict[str, Site], dict[str, str]]:
    """List the layers of a model that could be sites, those that are apart from those that stay dense.

    Left alone are layers where a replacement would not be seen, or would not do the same: subclasses of a
    site's class, whose owners read their weights directly (the output projection of `nn.MultiheadAttention`
    is one); weights that are computed (parametrisations, pruning); weights or biases that others hold as
    well; layers with an instance of their own kind of call; and convolutions of other kinds. Hooks alone are
    no reason: they are carried over.

    Args:
        model: any module at all.

    Returns:
        Name to site, and name to the reason why a layer is left alone.

    Raises:
        ValueError: the model is a TorchScript module, whose layers cannot be replaced.
    """
    if isinstance(model, torch.jit.ScriptModule):
        raise ValueError(
            f"{type(model).__name__} is a TorchScript module, whose layers cannot be replaced: "
            f"take the module that it was made from"
        )
    owners = _owners(model)
    found: dict[str, Site] = {}
    skipped: dict[str, str] = {}
    scripted: list[str] = []
    for name, module in model.named_modules():
        if any(name.startswith(f"{outer}.") for outer in scripted):
            continue
        kind = next((site for _, site in SITES.items() if isinstance(module, site.kind())), None)
        if isinstance(module, torch.jit.ScriptModule):
            scripted.append(name)
            skipped[name] = "a TorchScript module, whose layers cannot be replaced"
        elif kind is not None:
            reason = (
                _numbers_fault(module, kind.kind()) or obstacle(module, kind) or _tie(name, module, owners)
            )
            if reason is None:
                found[name] = kind(module)
            else:
                skipped[name] = reason
        elif isinstance(module, nn.modules.conv._ConvNd):
            skipped[name] = f"a {type(module).__name__}, which no kind of site covers"
    return found, skipped


def site_of(layer: nn.Module) -> Site | None:
    """Return a layer as a site, whatever else holds its numbers; None where no kind is of its class."""
    kind = next((site for _, site in SITES.items() if type(layer) is site.kind()), None)
    return None if kind is None else kind(layer)


def _kinds() -> str:
    return " or ".join(kind.kind().__name__ for _, kind in SITES.items())


def listed(skipped: Iterable[tuple[str, str]], shown: int = _SHOWN) -> str:
    """Write layers with their reasons in one line, the first few of them."""
    items = [f"{name or 'the model'} ({reason})" for name, reason in skipped]
    more = f" and {len(items) - shown} more" if len(items) > shown else ""
    return ", ".join(items[:shown]) + more


def _numbers_fault(layer: nn.Module, wanted: type[nn.Module]) -> str | None:
    """Say why a layer's weight and bias are not plain numbers of its own."""
    kind = type(layer)
    if nn.utils.parametrize.is_parametrized(layer):
        return "its weight or bias is computed by a parametrisation"
    if isinstance(layer, nn.modules.lazy.LazyModuleMixin) and layer.has_uninitialized_params():
        return "its shape is not known before it has run"
    if kind is not wanted:
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


def check_numbers(model: nn.Module, sites: Mapping[str, Site]) -> None:
    """Refuse sites whose numbers cannot be factorised.

    Args:
        model: the model.
        sites: its sites that are to be factorised, by name.

    Raises:
        ValueError: a number is NaN, infinite, complex or not there (meta tensors), or the model was made in
            inference mode.
    """
    if any(tensor.is_inference() for tensor in (*model.parameters(), *model.buffers())):
        raise ValueError(
            f"{type(model).__name__} was made in torch.inference_mode(), where torch lets nobody change its "
            f"numbers later: make it outside, or under torch.no_grad()"
        )
    for name, site in sites.items():
        numbers = list(site.layer.parameters())
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


def _tie(name: str, layer: nn.Module, owners: dict[int, list[tuple[str, str]]]) -> str | None:
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
