"""Replace the layers of a model by smaller ones."""

from typing import Any

import torch
from torch import Tensor, nn

from arsvd.calls import carry
from arsvd.copying import ExampleError, check_copy, copied, own_example
from arsvd.formats import FORMATS
from arsvd.layers import replace_layer
from arsvd.modes import unwrapped
from arsvd.planning import Plan
from arsvd.sites import Site
from arsvd.sites.finding import find_sites
from arsvd.statistics.spectrum import Spectra


def compress(model: nn.Module, spectra: Spectra, plan: Plan, example: Tensor | None = None) -> nn.Module:
    """Build a compressed copy of a model.

    Hooks and attributes of a replaced layer move to the new one. Where inputs are at hand, the copy is run
    beside the model before its layers lose anything: it must use its own layers, the same ones that the model
    uses, and give the same outputs. Without inputs, a model whose copy may depend on the original is refused.

    Args:
        model: model that the spectra come from; it is not changed.
        spectra: spectra of the model.
        plan: plan with one rank per layer, made from these spectra.
        example: inputs (rows, …) to check the copy with; by default some that the spectra were made with.

    Returns:
        A new module of the same kind, in which each planned layer has the plan's format, such as a
        `LowRankLinear`; the new layer alone where the model is itself one layer. It is neither compiled nor
        wrapped for data parallelism.

    Raises:
        ValueError: the spectra or the plan belong to another model, the model cannot be copied, or its copy
            would not do the same.
    """
    with torch.inference_mode(False), unwrapped(model) as plain:
        sites = _checked_sites(plain, spectra, plan)
        small = copied(plain)
        dense = find_sites(small, list(sites))
        new: dict[str, nn.Module] = {}
        for spectrum, size in zip(spectra, plan.ranks, strict=True):
            if size is not None:
                site = dense[spectrum.name]
                new[spectrum.name] = in_place(site, FORMATS[spectrum.format].layer(site, spectrum, size))
                small = _with(small, site.layer, new[spectrum.name])
        kinds = {name: type(layer) for name, layer in new.items()}
        for name, layer in new.items():
            layer.__class__ = _stand_in(kinds[name], dense[name].layer)
        try:
            pairs = {name: (sites[name].layer, layer) for name, layer in new.items()}
            gone = [dense[name].layer for name in new]
            kept = own_example(plain) if spectra.example is None else spectra.example
            try:
                check_copy(plain, small, pairs, gone, kept if example is None else example)
            except ExampleError:
                if example is not None:
                    raise
                check_copy(plain, small, pairs, gone, None)  # the model has another dtype or device since
        finally:
            for name, layer in new.items():
                layer.__class__ = kinds[name]
    return small


def _with(model: nn.Module, old: nn.Module, new: nn.Module) -> nn.Module:
    if old is model:
        return new
    replace_layer(model, old, new)
    return model


def in_place(site: Site, layer: nn.Module) -> nn.Module:
    """Turn a layer into a full replacement of a site's layer: with its hooks, mode and other attributes."""
    layer.requires_grad_(bool(site.layer.weight.requires_grad))
    carry(site, layer)
    return layer.train(site.layer.training)


def _stand_in(kind: type[nn.Module], dense: nn.Module) -> type[nn.Module]:
    """Make a class for a new layer that computes what the dense layer did, for use while a copy is tested."""

    def forward(self: nn.Module, *arguments: Any, **keywords: Any) -> Any:
        return type(dense).forward(dense, *arguments, **keywords)

    def read(name: str) -> property:
        return property(lambda self: getattr(dense, name))

    # some code reads these in place of calling the layer
    return type("_StandIn", (kind,), {"forward": forward, "weight": read("weight"), "bias": read("bias")})


def _checked_sites(model: nn.Module, spectra: Spectra, plan: Plan) -> dict[str, Site]:
    """Return the sites of spectra and a plan by name, and check that all three belong together."""
    sites = find_sites(model, [spectrum.name for spectrum in spectra])
    for spectrum in spectra:
        site = sites[spectrum.name]
        shape, wanted = (site.out_features, site.in_features), (spectrum.out_features, spectrum.in_features)
        if (site.name, shape, site.groups) != (spectrum.site, wanted, spectrum.groups):
            raise ValueError(
                f"the spectrum of layer {spectrum.name!r} is of shape {wanted}, the layer is {shape}"
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
    return sites
