"""Measure a model at many rank tuples without building a model for each.

The spectra are nested: rank r of a layer uses the first r columns of one matrix U and the first r rows of
one matrix U^T W. A model that is a chain of modules (`nn.Sequential`, at any depth of nesting) is walked as
a tree: rank tuples with equal first ranks share the activations up to the first layer in which they differ,
and the ranks tried below one node share one product with U^T W.
"""

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arsvd.compression import factors
from arsvd.json_fields import Count, Share, Size, read_fields
from arsvd.layers import linear_layers, replace_layer
from arsvd.lowrank import TILE
from arsvd.modes import evaluation_mode
from arsvd.planning import Plan
from arsvd.scoring import Metrics as Metrics
from arsvd.scoring import check_labels, read, scores
from arsvd.scoring import measure as measure
from arsvd.spectrum import Spectra, Spectrum

RankTuple = tuple[int | None, ...]


@dataclass(frozen=True)
class OperatingPoint:
    """A trained model at one rank per layer.

    Attributes:
        ranks: one per layer; None where a layer stays dense.
        params: numbers stored.
        macs: multiplications of one input row in the linear layers.
        accuracy: on validation, in [0, 1].
        macro_f1: on validation, in [0, 1].
        loss: mean cross-entropy on validation, in nats.
        family: the rule or step that gave the ranks: "dense", "energy", "budget", "recovered", …
        basis: "weight" or "activation"; None for the dense model.
        threshold: the rule's number; None where it has none.
    """

    ranks: RankTuple
    params: Count
    macs: Size
    accuracy: Share
    macro_f1: float
    loss: float
    family: str
    basis: str | None
    threshold: float | None

    def named(self, family: str) -> "OperatingPoint":
        """Return the point under another family's name."""
        return replace(self, family=family)

    def to_dict(self) -> dict[str, Any]:
        """Return the point as JSON-able values."""
        return {**asdict(self), "ranks": list(self.ranks)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "OperatingPoint":
        """Rebuild a point from `to_dict`.

        Raises:
            ValueError: a field is missing, unknown or not what such a point has.
        """
        names = {field.name for field in fields(cls)}
        if isinstance(values, Mapping) and set(values) != names:
            raise ValueError(f"an operating point has the fields {sorted(names)}, got {sorted(values)}")
        return read_fields(cls, values, "not a whole operating point")


@torch.no_grad()
def evaluate(model: nn.Module, inputs: Tensor, labels: Tensor, batch_size: int = 4096) -> Metrics:
    """Measure a model as it is, in evaluation mode.

    Args:
        model: maps (rows, …) to (rows, classes).
        inputs: (rows, …).
        labels: (rows,) int64.
        batch_size: rows a forward pass takes.
    """
    with evaluation_mode(model):
        return measure(torch.cat([model(batch) for batch in inputs.split(batch_size)]), labels)


class Evaluator:
    """Measures one model at many rank tuples, each at most once.

    Args:
        model: the model that the spectra come from; it is not changed, and must not be while it is measured.
        spectra: its spectra.
        inputs: (rows, …), what the model takes.
        labels: (rows,) int64.
        batch_size: rows walked at a time.
    """

    def __init__(
        self, model: nn.Module, spectra: Spectra, inputs: Tensor, labels: Tensor, batch_size: int = 8192
    ) -> None:
        self.model, self.spectra = model, spectra
        self.inputs, self.labels, self.batch_size = inputs, labels, batch_size
        self._known: dict[RankTuple, Metrics] = {}

    @cached_property
    def _stages(self) -> list["_Stage"]:
        # when first walked: an evaluator that is told what was measured elsewhere needs no factors of its own
        return _stages(copy.deepcopy(self.model).eval(), self.spectra)

    @property
    def evaluated(self) -> int:
        """How many distinct rank tuples were measured so far."""
        return len(self._known)

    def missing(self, ranks: Iterable[RankTuple]) -> list[RankTuple]:
        """Return the distinct rank tuples among these that were not measured yet."""
        return [key for key in dict.fromkeys(ranks) if key not in self._known]

    def remember(self, measured: Mapping[RankTuple, Metrics]) -> None:
        """Take what was measured elsewhere, on this evaluator's inputs and labels."""
        self._known.update(measured)

    def check_labels(self, classes: int) -> None:
        """Refuse labels outside 0 … classes - 1, at the first measurement only: it waits for the device.

        Raises:
            ValueError: there are no rows or a label is not a class.
        """
        if not self._known:
            check_labels(self.labels, len(self.inputs), classes)

    @torch.no_grad()
    def metrics(self, ranks: Iterable[RankTuple]) -> dict[RankTuple, Metrics]:
        """Measure rank tuples, those measured before from memory.

        Args:
            ranks: one rank per layer each; None where a layer stays dense.

        Raises:
            ValueError: there are no rows or a label is not a class.
        """
        wanted = list(dict.fromkeys(ranks))
        parts: dict[RankTuple, list[Tensor]] = {key: [] for key in self.missing(wanted)}
        if parts:
            for batch in self.inputs.split(self.batch_size):
                for key, logits in _walk(self._stages, 0, batch, list(parts)):
                    parts[key].append(logits)
            whole = [torch.cat(pieces) for pieces in parts.values()]
            self.check_labels(whole[0].shape[1])
            scored = torch.stack([scores(logits, self.labels) for logits in whole])
            self.remember(dict(zip(parts, read(scored, len(self.labels)), strict=True)))
        return {key: self._known[key] for key in wanted}

    def points(self, plans: Sequence[Plan]) -> list[OperatingPoint]:
        """Measure plans; of plans with equal ranks the first one names the point.

        Returns:
            One operating point a distinct rank tuple, in the order of the plans.
        """
        distinct: dict[RankTuple, Plan] = {}
        for plan in plans:
            distinct.setdefault(plan.ranks, plan)
        measured = self.metrics(distinct)
        return [operating_point(plan, measured[ranks]) for ranks, plan in distinct.items()]


def operating_point(plan: Plan, metrics: Metrics) -> OperatingPoint:
    """Join a plan and what was measured there."""
    dense = all(rank is None for rank in plan.ranks)
    return OperatingPoint(
        ranks=plan.ranks,
        params=plan.params,
        macs=plan.macs,
        accuracy=metrics.accuracy,
        macro_f1=metrics.macro_f1,
        loss=metrics.loss,
        family="dense" if dense else plan.family,
        basis=None if dense else plan.basis,
        threshold=None if dense else plan.threshold,
    )


class _Truncated(nn.Module):
    """A linear layer at whichever rank is asked for."""

    def __init__(self, layer: nn.Linear, spectrum: Spectrum) -> None:
        super().__init__()
        self.dense, self.dense_bias = layer.weight.detach(), layer.bias
        # the compressed layer's own factors: scaled otherwise, half precision would round them otherwise
        left, right, _ = factors(spectrum, layer, spectrum.full_rank)
        self.left, self.right = left.to(self.dense.dtype), right.to(self.dense.dtype)
        # the mean's part along each component, and the whole of it: b_r = b + mean - U_r (U_r^T mean)
        self.mean, self.along = spectrum.mean, spectrum.duals.T @ spectrum.mean
        self.vectors = spectrum.vectors
        self.biased = spectrum.biased_when_truncated
        self.rank: int | None = None

    def bias_at(self, rank: int) -> Tensor | None:
        if not self.biased:
            return None
        lost = self.mean - self.vectors[:, :rank] @ self.along[:rank]
        return (lost if self.dense_bias is None else lost + self.dense_bias.double()).to(self.dense.dtype)

    @property
    def weight(self) -> Tensor:
        """(out, in) at the rank asked for: `nn.TransformerEncoderLayer` reads it in place of a call."""
        return self.dense if self.rank is None else self.left[:, : self.rank] @ self.right[: self.rank]

    @property
    def bias(self) -> Tensor | None:
        """(out,) at the rank asked for."""
        return self.dense_bias if self.rank is None else self.bias_at(self.rank)

    def outputs(self, x: Tensor, ranks: Sequence[int | None]) -> Iterable[tuple[int | None, Tensor]]:
        """Yield the layer's outputs at each of several ranks, from one product with U^T W."""
        largest = max((rank for rank in ranks if rank is not None), default=0)
        # up to whole tiles of the product's kernel: some columns more take less time
        reduced = F.linear(x, self.right[: -(-largest // TILE) * TILE]) if largest else None
        for rank in ranks:
            if rank is None or reduced is None:
                yield rank, F.linear(x, self.dense, self.dense_bias)
            else:
                yield rank, F.linear(reduced[..., :rank], self.left[:, :rank], self.bias_at(rank))

    def forward(self, x: Tensor) -> Tensor:
        return next(iter(self.outputs(x, [self.rank])))[1]


@dataclass(frozen=True)
class _Stage:
    """A piece of a chain: fixed modules, then the layer whose rank varies (all of them in other models)."""

    before: nn.Module
    varying: tuple[_Truncated, ...]
    last: bool


def _stages(model: nn.Module, spectra: Spectra) -> list[_Stage]:
    """Cut a model into stages, one per varying layer where it is a chain, and one for all otherwise."""
    layers = linear_layers(model, [spectrum.name for spectrum in spectra])
    root = nn.Sequential(model)  # so that a model that is one linear layer has a parent as well
    varying = []
    for spectrum in spectra:
        truncated = _Truncated(layers[spectrum.name], spectrum)
        replace_layer(root, layers[spectrum.name], truncated)
        varying.append(truncated)
    chain = _flatten(root)
    if [module for module in chain if isinstance(module, _Truncated)] != varying:
        return [_Stage(root, tuple(varying), last=True)]
    stages, before = [], nn.Sequential()
    for module in chain:
        if isinstance(module, _Truncated):
            stages.append(_Stage(before, (module,), last=False))
            before = nn.Sequential()
        else:
            before.append(module)
    return [*stages, _Stage(before, (), last=True)]


def _flatten(module: nn.Module) -> list[nn.Module]:
    # a subclass with a forward of its own is not a chain, whatever it inherits; nor is one with hooks
    if (
        isinstance(module, nn.Sequential)
        and type(module).forward is nn.Sequential.forward
        and not (module._forward_hooks or module._forward_pre_hooks)
    ):
        return [leaf for child in module for leaf in _flatten(child)]
    return [module]


def _walk(
    stages: list[_Stage], depth: int, x: Tensor, wanted: list[RankTuple]
) -> Iterable[tuple[RankTuple, Tensor]]:
    """Yield the logits of every wanted rank tuple; all of them agree in the ranks before `depth`."""
    stage = stages[depth]
    if stage.last:
        for ranks in wanted:
            for layer, rank in zip(stage.varying, ranks, strict=bool(stage.varying)):
                layer.rank = rank
            yield ranks, stage.before(x)
        return
    groups: dict[int | None, list[RankTuple]] = {}
    for ranks in wanted:
        groups.setdefault(ranks[depth], []).append(ranks)
    for rank, outputs in stage.varying[0].outputs(stage.before(x), list(groups)):
        yield from _walk(stages, depth + 1, outputs, groups[rank])
