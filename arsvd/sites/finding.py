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

    `survey` lists the other layers as well, and why they stay dense. A layer that is registered under several
    names is listed once, under the first one.

    Args:
        model: any module; one that is itself a layer has the name "".
        names: names of the wanted layers; all layers when None.

    Returns:
        The sites, by the names of their layers.

    Raises:
        ValueError: a wanted layer does not exist or cannot be compressed, or no layer at all can be.
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
    """List the layers of a model that are sites, and those that could be but stay dense.

    Layers stay dense where a replacement would not be used, or would not do the same: subclasses of a site's
    class, whose owners read their weights directly (such as the output projection of
    `nn.MultiheadAttention`); weights that are computed (parametrisations, pruning); weights or biases that
    other modules hold as well; layers whose call is replaced on the instance; and convolutions of other
    kinds. Hooks alone are no reason: they are carried over.

    Args:
        model: any module.

    Returns:
        The sites, and the reasons why the other layers stay dense, both by the names of the layers.

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
    """Return a layer as a site, whatever else holds its numbers; None where no kind of site has its class."""
    kind = next((site for _, site in SITES.items() if type(layer) is site.kind()), None)
    return None if kind is None else kind(layer)


def _kinds() -> str:
    return " or ".join(kind.kind().__name__ for _, kind in SITES.items())


def listed(skipped: Iterable[tuple[str, str]], shown: int = _SHOWN) -> str:
    """List the first few layers with their reasons in one line."""
    items = [f"{name or 'the model'} ({reason})" for name, reason in skipped]
    more = f" and {len(items) - shown} more" if len(items) > shown else ""
    return ", ".join(items[:shown]) + more


def _numbers_fault(layer: nn.Module, wanted: type[nn.Module]) -> str | None:
    """Say why a layer's weight and bias are not plain numbers of its own; None where they are."""
    kind = type(layer)
    if nn.utils.parametrize.is_parametrized(layer):
        return "its weight or bias is computed by a parametrisation"
    if isinstance(layer, nn.modules.lazy.LazyModuleMixin) and layer.has_uninitialized_params():
        return "its shape is not known before it has run"
    if kind is not wanted:
        return f"a {kind.__name__}, whose owner may read its weight directly"
    if "weight" in layer._buffers:
        return "its weight is a buffer, as where it is restored from codes"
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
        model: model that the sites belong to.
        sites: sites that are to be factorised, by name.

    Raises:
        ValueError: a number is NaN, infinite, complex or missing (meta tensors), or the model was made in
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
    """Map the id of each parameter to the paths of all modules that hold it, with its name in each."""
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
