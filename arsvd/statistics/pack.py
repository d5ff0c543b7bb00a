"""Factorise several dense MLPs at once: one set of batched operations, whatever their number.

The spectra are those that `arsvd.spectra` returns model by model, up to rounding. On a GPU, where small
matrices leave most of the device idle and every operation has to be launched, this saves most of the time.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from arsvd.batches import calibration_batches
from arsvd.coverage import chain_macs
from arsvd.formats import FORMATS, LOW_RANK
from arsvd.modes import inner
from arsvd.sites import Site
from arsvd.sites.finding import find_sites, site_of
from arsvd.statistics import BASES
from arsvd.statistics.factorise import chosen_basis, joined
from arsvd.statistics.observed import Moments, Observed, output_moments
from arsvd.statistics.spectrum import Spectra, Spectrum
from arsvd.statistics.stacking import dense_chain, kind_of, stacked_layers

# Largest number of elements of one set of sums of z z^T, over all layers of the members that are factorised
# together: 512 MiB in float64, of which the loss basis holds about six at a time. 200 members of
# 784-512-256-10 fit.
MATRIX_ELEMENTS = 2**26
# Largest number of elements of one layer's outputs, also in float64: 256 MiB. Larger batches are split.
OUTPUT_ELEMENTS = 2**25

Chain = dict[str, nn.Linear]


@torch.no_grad()
def pack_spectra(
    models: Sequence[nn.Module],
    calibration: Tensor | Iterable[Tensor] | None = None,
    basis: str | None = None,
    batch_size: int = 2048,
    format: str = LOW_RANK,
) -> list[Spectra]:
    """Factorise every layer of several MLPs; `arsvd.spectra` describes the spectra of each.

    Args:
        models: dense `arsvd.MLP`s with the same depth, numbers of inputs and classes, dtype (float32 or
            float64) and device; their hidden widths may differ. They are not changed.
        calibration: inputs of all models (rows, …), or batches of them; at least 2 rows. With inputs, the
            default basis is "activation"; with None, it is "weight".
        basis: name of the basis, "weight", "activation" or "loss".
        batch_size: number of rows per batch where `calibration` is one tensor.
        format: name of the format to factorise for.

    Returns:
        The spectra of each model.

    Raises:
        ValueError: models do not go together or are not dense MLPs; weights or outputs are not finite; there
            are fewer than 2 rows; the models do not take the inputs; the basis is unknown or does not go with
            the calibration.
        TypeError: a calibration batch is not a tensor.
    """
    basis = chosen_basis(basis, calibration)
    chains = _chains(models)
    if not chains:
        return []
    batches = [] if calibration is None else list(calibration_batches(calibration, batch_size))
    widths = [
        max(sizes) for sizes in zip(*([m.out_features for m in c.values()] for c in chains), strict=True)
    ]
    members = max(1, MATRIX_ELEMENTS // sum(width**2 for width in widths))
    found: list[list[Spectrum]] = []
    for start in range(0, len(chains), members):
        found += _factorised(chains[start : start + members], batches, basis, format)
    return [
        joined(model, basis, layers, counted=chain_macs(chain, chain))
        for model, chain, layers in zip(models, chains, found, strict=True)
    ]


def _chains(models: Sequence[nn.Module]) -> list[Chain]:
    chains = []
    for position, model in enumerate(models):
        chain = dense_chain(model)
        if chain is None:
            raise ValueError(
                f"model {position} is no dense MLP in float32 or float64; arsvd.spectra factorises it alone"
            )
        if list(find_sites(inner(model))) != list(chain):
            raise ValueError(
                f"model {position} has layers that stay dense, such as tied ones; "
                f"arsvd.spectra factorises it alone"
            )
        chains.append(chain)
    kinds = {kind_of(chain) for chain in chains}
    if len(kinds) > 1:
        raise ValueError(
            "models that are factorised together agree in layers, inputs, classes, dtype and device, "
            f"got {sorted(map(str, kinds))}"
        )
    return chains


def _factorised(
    chains: Sequence[Chain], batches: Sequence[Tensor], basis: str, format: str
) -> list[list[Spectrum]]:
    """Factorise members that fit into memory together; return the spectra of their layers, by member."""
    stack = stacked_layers(chains)
    _check_finite(chains, stack)
    moments: dict[str, Moments] = {}
    metrics: dict[str, Tensor] = {}
    names = list(chains[0])
    if BASES[basis].calibrated:
        pack = _Pack(names, stack)
        parts = _parts(batches, stack)
        moments = output_moments(pack, pack.layers, parts)
        metrics = BASES[basis].metrics(pack, pack.layers, parts, members=True)
    found: list[dict[str, Spectrum]] = [{} for _ in chains]
    for name, layers in zip(names, zip(*(chain.values() for chain in chains), strict=True), strict=True):
        sites = [site for layer in layers if (site := site_of(layer)) is not None]
        for members in _by_shape(sites):
            group = [_member(name, sites[m], m, moments.get(name), metrics.get(name)) for m in members]
            for member, spectrum in zip(members, FORMATS[format].spectra(basis, group), strict=True):
                found[member][name] = replace(spectrum, name=list(chains[member])[names.index(name)])
    return [[layers[name] for name in names] for layers in found]


def _member(name: str, site: Site, member: int, moments: Moments | None, metric: Tensor | None) -> Observed:
    """Take one member's part, without padding, of what was observed at a layer of all members."""
    out = site.out_features
    return Observed(
        name,
        site,
        None
        if moments is None
        else Moments(moments.rows, moments.total[member, :out], moments.second[member, :out, :out]),
        None if metric is None else metric[member, :out, :out],
    )


def _parts(batches: Sequence[Tensor], stack: Sequence[tuple[Tensor, Tensor]]) -> list[Tensor]:
    """Flatten batches, and split them so that a layer's outputs stay within `OUTPUT_ELEMENTS`.

    Raises:
        ValueError: the models do not take the batches.
    """
    weight = stack[0][0]
    widest = len(weight) * max(weight.shape[1] for weight, _ in stack)
    rows = max(1, OUTPUT_ELEMENTS // widest)
    found: list[Tensor] = []
    for batch in batches:
        x = batch.flatten(1)
        if x.shape[1] != weight.shape[2] or x.dtype != weight.dtype:
            raise ValueError(
                f"the models do not take calibration inputs of shape {tuple(batch.shape)} and {batch.dtype}: "
                f"they need {weight.shape[2]} features and {weight.dtype}"
            )
        found += x.split(rows)
    return found


def _check_finite(chains: Sequence[Chain], stack: Sequence[tuple[Tensor, Tensor]]) -> None:
    finite = [torch.isfinite(tensor).flatten(1).all(1) for pair in stack for tensor in pair]
    kinds = [(name, kind) for name in chains[0] for kind in ("weights", "biases")]
    for (name, kind), members in zip(kinds, torch.stack(finite).tolist(), strict=True):
        if not all(members):
            raise ValueError(
                f"layer {name!r} of model {members.index(False)} holds NaN or infinite {kind}; "
                "it cannot be factorised"
            )


def _by_shape(sites: Sequence[Site]) -> list[list[int]]:
    """Group members by the true shape of their layer, since padding would add zeros to the spectra."""
    groups: dict[tuple[int, int], list[int]] = {}
    for member, site in enumerate(sites):
        groups.setdefault((site.out_features, site.in_features), []).append(member)
    return list(groups.values())


class _Layer(nn.Module):
    """One layer of all members as it is observed; its weights are (members, out, in)."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = weight, bias

    @property
    def layer(self) -> nn.Module:
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.products(x) + self.bias

    def products(self, x: Tensor) -> Tensor:
        return torch.bmm(x.expand(len(self.weight), -1, -1), self.weight.mT)

    def outputs(self, y: Tensor) -> Tensor:
        return y


class _Pack(nn.Sequential):
    """All members as one module, from inputs (rows, features) to logits (members, rows, classes)."""

    def __init__(self, names: Sequence[str], stack: Sequence[tuple[Tensor, Tensor]]) -> None:
        self_layers = {name: _Layer(*pair) for name, pair in zip(names, stack, strict=True)}
        modules: OrderedDict[str, nn.Module] = OrderedDict()
        for name, layer in self_layers.items():
            if modules:
                modules[f"before {name}"] = nn.ReLU()
            modules[name] = layer
        super().__init__(modules)
        self.layers = self_layers
