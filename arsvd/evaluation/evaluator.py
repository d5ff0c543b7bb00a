"""Measure a model at many tuples of sizes without building a model for each.

The spectra are nested: rank r of a layer uses the first r columns of one matrix U and the first r rows of
one matrix U^T W. A model that is a chain of modules (`nn.Sequential`, nested to any depth) is walked as a
tree: rank tuples with equal first ranks share the activations up to the first layer in which they differ,
and the ranks tried below one node share one product with U^T W.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn

from arsvd.batches import EXAMPLE_ROWS, check_labelled, check_logits, feeding
from arsvd.calls import called_plainly
from arsvd.choices import Choice, choices_of
from arsvd.copying import Pairs, check_copy, copied, doubts
from arsvd.cost import Cost
from arsvd.evaluation.resized import Resized
from arsvd.evaluation.scoring import Metrics as Metrics
from arsvd.evaluation.scoring import check_labels, read, scores
from arsvd.evaluation.scoring import measure as measure
from arsvd.footprint import rows_at_once
from arsvd.formats import DENSE, LOW_RANK
from arsvd.json_fields import SINCE, Count, Share, Size, read_fields
from arsvd.layers import replace_layer
from arsvd.modes import evaluation_mode, unwrapped
from arsvd.planning import Plan, stored_cost
from arsvd.sites.finding import find_sites
from arsvd.statistics.spectrum import Spectra

RankTuple = tuple[int | None, ...]
_USUAL = ("bits", "formats")  # left out of a record where they are None


@dataclass(frozen=True)
class OperatingPoint:
    """A trained model at one choice per site.

    Attributes:
        ranks: one size per site; None where a layer stays dense.
        params: count of numbers stored.
        macs: multiplications for one input row in the sites.
        accuracy: accuracy on validation data, in [0, 1].
        macro_f1: macro F1 on validation data, in [0, 1].
        loss: mean cross-entropy on validation data, in nats.
        family: name of the rule or step that chose the sizes: "dense", "energy", "budget", "recovered", …
        basis: name of the basis; None for the dense model.
        threshold: number that the rule was given; None where it has none.
        bits: bits stored; None where they are 32 per number.
        formats: name of the format of each size; None where every site is low-rank or dense.
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
    bits: Count | None = field(default=None, metadata={SINCE: "0.3.0"})
    formats: tuple[str, ...] | None = field(default=None, metadata={SINCE: "0.3.0"})

    @property
    def cost(self) -> Cost:
        """The cost of the model."""
        return stored_cost(self.params, self.bits, self.macs)

    @property
    def choices(self) -> tuple[Choice, ...]:
        """One choice of format and size per site."""
        return choices_of(self.ranks, self.formats)

    def named(self, family: str) -> "OperatingPoint":
        """Return the point under another family's name."""
        return replace(self, family=family)

    def to_dict(self) -> dict[str, Any]:
        """Return the point as JSON-able values, without bits and formats where they are None."""
        values = {**asdict(self), "ranks": list(self.ranks)}
        return {name: value for name, value in values.items() if name not in _USUAL or value is not None}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "OperatingPoint":
        """Rebuild a point from `to_dict`.

        Raises:
            ValueError: a field is missing, unknown or not what such a point has.
        """
        point = read_fields(cls, values, "not a whole operating point")
        if point.formats is not None and len(point.formats) != len(point.ranks):
            raise ValueError(f"not a whole operating point: formats are {len(point.formats)}, not one a rank")
        return point


@torch.no_grad()
def evaluate(model: nn.Module, inputs: Tensor, labels: Tensor, batch_size: int = 4096) -> Metrics:
    """Measure a model as it is, in evaluation mode and uncompiled.

    Args:
        model: model from (rows, …) to logits (rows, classes).
        inputs: inputs (rows, …).
        labels: class indices (rows,), of any integer dtype.
        batch_size: largest number of rows per forward pass; fewer are taken where the model computes much for
            each row.

    Raises:
        ValueError: the model does not take the inputs or does not return logits, or the labels are not one
            class per row.
    """
    check_labelled(inputs, labels)
    found = []
    with unwrapped(model) as plain, evaluation_mode(plain):
        for batch in inputs.split(rows_at_once(plain, inputs, batch_size)):
            with feeding(batch, "inputs"):
                found.append(plain(batch))
            check_logits(found[-1])
    return measure(torch.cat(found), labels)


class Evaluator:
    """Measures one model at many rank tuples, each at most once.

    Args:
        model: model that the spectra come from; it is not changed, and must not change while it is measured.
        spectra: spectra of the model.
        inputs: inputs of the model (rows, …).
        labels: class indices (rows,), of any integer dtype.
        batch_size: largest number of rows per pass; fewer are taken where the model computes much for each
            row.

    Raises:
        ValueError: the inputs or the labels are not one tensor each.
    """

    def __init__(
        self, model: nn.Module, spectra: Spectra, inputs: Tensor, labels: Tensor, batch_size: int = 8192
    ) -> None:
        check_labelled(inputs, labels)
        self.model, self.spectra = model, spectra
        self.inputs, self.labels, self.batch_size = inputs, labels, batch_size
        self._known: dict[RankTuple, Metrics] = {}

    @cached_property
    def _stages(self) -> list["_Stage"]:
        # made at the first walk: an evaluator that only remembers results from elsewhere needs no factors
        with unwrapped(self.model) as plain:
            small = copied(plain).eval()
            gone = [site.layer for site in find_sites(small, [s.name for s in self.spectra]).values()]
            stages, pairs = _stages(plain, small, self.spectra)
            root = stages[-1].root
            # walking a chain that holds nothing else is known to do the same as calling it
            if len(stages) == 1 or doubts(plain, root, gone) is not None:
                walk = None if len(stages) == 1 else partial(_dense_outputs, stages)
                check_copy(plain, root, pairs, gone, self.inputs[:EXAMPLE_ROWS], walk)
            return stages

    @cached_property
    def _rows(self) -> int:
        with unwrapped(self.model) as plain:
            return rows_at_once(plain, self.inputs, self.batch_size)

    @property
    def evaluated(self) -> int:
        """The number of distinct rank tuples that were measured so far."""
        return len(self._known)

    def missing(self, ranks: Iterable[RankTuple]) -> list[RankTuple]:
        """Return the distinct rank tuples among these that have not been measured yet."""
        return [key for key in dict.fromkeys(ranks) if key not in self._known]

    def remember(self, measured: Mapping[RankTuple, Metrics]) -> None:
        """Keep metrics that were measured elsewhere on this evaluator's inputs and labels."""
        self._known.update(measured)

    def check_labels(self, classes: int) -> None:
        """Refuse labels outside 0 … classes - 1, at the first measurement only, as it waits for the device.

        Raises:
            ValueError: there are no rows or a label is not a class.
        """
        if not self._known:
            check_labels(self.labels, len(self.inputs), classes)

    @torch.no_grad()
    def metrics(
        self, ranks: Iterable[RankTuple], progress: Callable[[int, int], None] | None = None
    ) -> dict[RankTuple, Metrics]:
        """Measure rank tuples, or recall those measured before.

        Args:
            ranks: tuples with one rank per layer; None where a layer stays dense.
            progress: callback for the passes done and the passes in all, a pass being one tuple on one batch.

        Raises:
            ValueError: there are no rows, a label is not a class, the model does not take the inputs or does
                not return logits, or the measured copy would not do the same as the model.
        """
        wanted = list(dict.fromkeys(ranks))
        parts: dict[RankTuple, list[Tensor]] = {key: [] for key in self.missing(wanted)}
        if parts:
            batches = self.inputs.split(self._rows)
            done = 0
            for batch in batches:
                with feeding(batch, "validation inputs"):
                    for key, logits in _walk(self._stages, 0, batch, list(parts)):
                        parts[key].append(logits)
                        done += 1
                        if progress is not None:
                            progress(done, len(batches) * len(parts))
            for pieces in parts.values():
                check_logits(pieces[0])
            whole = [torch.cat(pieces) for pieces in parts.values()]
            self.check_labels(whole[0].shape[1])
            scored = torch.stack([scores(logits, self.labels) for logits in whole])
            self.remember(dict(zip(parts, read(scored, len(self.labels)), strict=True)))
        return {key: self._known[key] for key in wanted}

    def points(
        self, plans: Sequence[Plan], progress: Callable[[int, int], None] | None = None
    ) -> list[OperatingPoint]:
        """Measure plans; where several have equal ranks, the first one names the point.

        Args:
            plans: plans to measure.
            progress: callback for the passes done and the passes in all; see `metrics`.

        Returns:
            One operating point per distinct rank tuple, in the order of the plans.
        """
        distinct: dict[RankTuple, Plan] = {}
        for plan in plans:
            distinct.setdefault(plan.ranks, plan)
        measured = self.metrics(distinct, progress)
        return [operating_point(plan, measured[ranks]) for ranks, plan in distinct.items()]


def operating_point(plan: Plan, metrics: Metrics) -> OperatingPoint:
    """Join a plan and the metrics measured for it."""
    dense = all(rank is None for rank in plan.ranks)
    cost = plan.cost
    formats = tuple(choice.format for choice in plan.choices)
    return OperatingPoint(
        ranks=plan.ranks,
        params=cost.numbers,
        macs=cost.macs,
        accuracy=metrics.accuracy,
        macro_f1=metrics.macro_f1,
        loss=metrics.loss,
        family="dense" if dense else plan.family,
        basis=None if dense else plan.basis,
        threshold=None if dense else plan.threshold,
        bits=None if cost == Cost.of(cost.numbers, cost.macs) else cost.bits,
        formats=None if {*formats} <= {LOW_RANK, DENSE} else formats,
    )


@dataclass(frozen=True)
class _Stage:
    """A piece of a chain: fixed modules, then the layer whose rank varies (all of them in other models).

    Attributes:
        before: fixed modules; the whole model where it is not a chain.
        varying: layer after them, whose rank varies; all such layers where the model is not a chain.
        last: True for the last stage, whose `before` returns the logits.
        root: whole copy of the model.
    """

    before: nn.Module
    varying: tuple[Resized, ...]
    last: bool
    root: nn.Module


def _stages(model: nn.Module, small: nn.Module, spectra: Spectra) -> tuple[list[_Stage], Pairs]:
    """Cut a model's copy into stages: one per varying layer and a last one for a chain, one otherwise."""
    names = [spectrum.name for spectrum in spectra]
    originals, sites = find_sites(model, names), find_sites(small, names)
    holder = nn.Sequential(small)  # gives a model that is itself one layer a parent as well
    pairs = {}
    for spectrum in spectra:
        site = sites[spectrum.name]
        resized = Resized(site, spectrum)
        replace_layer(holder, site.layer, resized)
        pairs[spectrum.name] = originals[spectrum.name].layer, resized
    root = holder[0]
    varying = [resized for _, resized in pairs.values()]
    chain = _flatten(root)
    walked = [module for module in chain if isinstance(module, Resized)]
    if walked != varying or not all(map(called_plainly, walked)):
        return [_Stage(root, tuple(varying), last=True, root=root)], pairs
    stages, before = [], nn.Sequential()
    for module in chain:
        if isinstance(module, Resized):
            stages.append(_Stage(before, (module,), last=False, root=root))
            before = nn.Sequential()
        else:
            before.append(module)
    return [*stages, _Stage(before, (), last=True, root=root)], pairs


def _flatten(module: nn.Module) -> list[nn.Module]:
    # a subclass with a forward of its own is not a chain, whatever it inherits; nor is a module with hooks
    if (
        isinstance(module, nn.Sequential)
        and type(module).forward is nn.Sequential.forward
        and called_plainly(module)
    ):
        return [leaf for child in module for leaf in _flatten(child)]
    return [module]


def _dense_outputs(stages: list[_Stage], x: Tensor) -> Tensor:
    ((_, outputs),) = _walk(stages, 0, x, [(None,) * (len(stages) - 1)])
    return outputs


def _walk(
    stages: list[_Stage], depth: int, x: Tensor, wanted: list[RankTuple]
) -> Iterable[tuple[RankTuple, Tensor]]:
    """Yield the logits of every wanted rank tuple; all tuples have the same ranks before `depth`."""
    stage = stages[depth]
    if stage.last:
        for ranks in wanted:
            for layer, rank in zip(stage.varying, ranks, strict=bool(stage.varying)):
                layer.size = rank
            yield ranks, stage.before(x)
        return
    groups: dict[int | None, list[RankTuple]] = {}
    for ranks in wanted:
        groups.setdefault(ranks[depth], []).append(ranks)
    for rank, outputs in stage.varying[0].outputs(stage.before(x), list(groups)):
        yield from _walk(stages, depth + 1, outputs, groups[rank])
