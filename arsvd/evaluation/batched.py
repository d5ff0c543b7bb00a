"""Measure several dense MLPs at many rank tuples at once: one set of batched operations for all of them.

The metrics are those that each `Evaluator` gives alone, up to rounding; `arsvd.evaluation.tree` describes
which products are shared and which are computed in one batch.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from arsvd.evaluation.evaluator import Evaluator, RankTuple
from arsvd.evaluation.scoring import read, scores
from arsvd.evaluation.tree import Chunk, Index, chunked, whole_tiles
from arsvd.formats import LOW_RANK
from arsvd.formats.factors import balanced
from arsvd.statistics.stacking import dense_chain, kind_of, stacked, stacked_layers

# Largest number of elements of one layer's outputs, all nodes together: 128 MiB in float32, a few of which
# are alive at a time. A GPU of 3 TB/s writes that much in 45 microseconds, several times as long as launching
# an operation takes; the smaller a chunk, the less of it is masked.
OUTPUT_ELEMENTS = 2**25

Member = tuple[Evaluator, list[RankTuple]]


@torch.no_grad()
def measure_together(wanted: Iterable[tuple[Evaluator, Iterable[RankTuple]]]) -> None:
    """Measure many models at many rank tuples; their evaluators remember the results.

    Dense `arsvd.MLP`s of one depth that are measured on the same tensors share one batch of operations. Any
    other model is measured by its evaluator alone.

    Args:
        wanted: evaluators, each with rank tuples to measure; those measured before cost nothing.

    Raises:
        ValueError: there are no rows or a label is not a class.
    """
    evaluators: dict[int, Evaluator] = {}
    ranks: dict[int, list[RankTuple]] = {}
    for evaluator, asked in wanted:
        evaluators[id(evaluator)] = evaluator
        ranks.setdefault(id(evaluator), []).extend(asked)
    kinds: dict[object, list[Member]] = {}
    for key, evaluator in evaluators.items():
        missing = evaluator.missing(ranks[key])
        kind = _kind(evaluator)
        if kind is None:
            evaluator.metrics(missing)
        elif missing:
            kinds.setdefault(kind, []).append((evaluator, missing))
    for members in kinds.values():
        _measure(members)


def _kind(evaluator: Evaluator) -> object:
    """Return what the evaluators of one batch have in common; None where one can only be measured alone."""
    layers = dense_chain(evaluator.model)
    if layers is None or list(layers) != [spectrum.name for spectrum in evaluator.spectra]:
        return None
    if any(spectrum.format != LOW_RANK for spectrum in evaluator.spectra):
        return None
    return (kind_of(layers), id(evaluator.inputs), id(evaluator.labels), evaluator.batch_size)


def _measure(members: Sequence[Member]) -> None:
    first, labels = members[0][0], members[0][0].labels
    layers = _layers(first)
    # if one of them has measured before, the labels, which all share, are known to be classes
    if not any(evaluator.evaluated for evaluator, _ in members):
        first.check_labels(layers[-1].out_features)
    index = Index()
    groups = [_planned(group, index) for group in _groups(members)]
    indices = index.on(first.inputs.device)
    batches = [batch.flatten(1) for batch in first.inputs.split(first.batch_size)]
    pairs: list[tuple[Evaluator, RankTuple]] = []
    scored: list[Tensor] = []
    for evaluators, largest, planned in groups:
        stack = [_stacked(evaluators, position, rank) for position, rank in enumerate(largest)]
        reduced = [x @ stack[0].right.mT for x in batches]
        for chunk in planned:
            parts = [_logits(stack, chunk, *x, indices) for x in zip(batches, reduced, strict=True)]
            scored.append(scores(torch.cat(parts, dim=1), labels))
            pairs += [(evaluators[member], ranks) for member, ranks in chunk.pairs]
    for (evaluator, ranks), metrics in zip(pairs, read(torch.cat(scored), len(labels)), strict=True):
        evaluator.remember({ranks: metrics})


def _layers(evaluator: Evaluator) -> list[torch.nn.Linear]:
    return list((dense_chain(evaluator.model) or {}).values())


def _groups(members: Sequence[Member]) -> list[Sequence[Member]]:
    """Split members so that a group's weights, and its inputs times the first U^T W, stay within a limit."""
    rows = len(members[0][0].inputs)
    costs = []
    for evaluator, ranks in members:
        layers = evaluator.spectra.layers
        weights = sum(s.out_features * (s.in_features + s.out_features) for s in layers)
        costs.append(max(weights, rows * whole_tiles((key[0] for key in ranks), layers[0].largest)))
    size = max(1, OUTPUT_ELEMENTS // max(costs))
    return [members[start : start + size] for start in range(0, len(members), size)]


def _planned(members: Sequence[Member], index: Index) -> tuple[list[Evaluator], list[int], list[Chunk]]:
    """Plan a group: return its evaluators, the largest requested rank per layer, and the pairs' chunks."""
    evaluators = [evaluator for evaluator, _ in members]
    spectra = [evaluator.spectra.layers for evaluator in evaluators]
    full = [max(s.largest for s in layers) for layers in zip(*spectra, strict=True)]
    pairs = [(member, key) for member, (_, ranks) in enumerate(members) for key in ranks]
    largest = [whole_tiles((key[layer] for _, key in pairs), rank) for layer, rank in enumerate(full)]
    rows = min(len(evaluators[0].inputs), evaluators[0].batch_size)
    widest = max(s.out_features for layers in spectra for s in layers)
    size = max(1, OUTPUT_ELEMENTS // (rows * widest))
    return evaluators, largest, chunked(pairs, full, size, index)


@dataclass(frozen=True)
class _Layer:
    """One layer of a group's members, in the models' dtype.

    Attributes:
        weight: dense weights (members, out, in).
        bias: dense biases (members, 1, out).
        left: left factors (members, out, rank).
        right: right factors (members, rank, in).
        biases: biases at all ranks (members, rank, out), with the bias at rank r in row r - 1.
    """

    weight: Tensor
    bias: Tensor
    left: Tensor
    right: Tensor
    biases: Tensor


def _stacked(evaluators: Sequence[Evaluator], position: int, rank: int) -> _Layer:
    """Stack one layer and compute its factors up to a rank, as `arsvd.formats.factors` does for one site."""
    ((weight, bias),) = stacked_layers([{"": _layers(evaluator)[position]} for evaluator in evaluators])
    spectra = [evaluator.spectra.layers[position] for evaluator in evaluators]
    vectors = stacked([spectrum.vectors for spectrum in spectra])[..., :rank]
    duals = vectors
    if any(spectrum.dual_vectors is not None for spectrum in spectra):
        duals = stacked([spectrum.duals for spectrum in spectra])[..., :rank]
    means = stacked([spectrum.mean for spectrum in spectra])
    left, right = balanced(vectors, duals.mT @ weight.double())
    # b_r = b + mean - U_r (U_r^T mean) for every r at once; where the bias must not change, the mean is zero
    along = duals.mT @ means[..., None]
    biases = bias.double() + means[:, None] - (vectors.mT * along).cumsum(1)
    return _Layer(weight, bias, *(tensor.to(weight.dtype) for tensor in (left, right, biases)))


def _logits(stack: Sequence[_Layer], chunk: Chunk, inputs: Tensor, reduced: Tensor, index: Tensor) -> Tensor:
    """Run a chunk's pairs on inputs.

    Args:
        stack: layers of the group.
        chunk: pairs to run, with their levels.
        inputs: inputs of all members (rows, features).
        reduced: inputs times the first layer's right factors, (members, rows, rank).
        index: positions that the levels' slices refer to.

    Returns:
        Logits (pairs, rows, classes).
    """
    x = inputs
    for position, (layer, level) in enumerate(zip(stack, chunk.levels, strict=True)):
        outputs = []
        if level.ranked:
            if position > 0:
                right = layer.right[:, : level.rank].index_select(0, index[level.source_members])
                reduced = torch.bmm(x.index_select(0, index[level.sources]), right.mT)
            members, ranks = index[level.members], index[level.ranks]
            kept = torch.arange(level.rank, device=index.device) < ranks[:, None]
            left = layer.left[..., : level.rank].index_select(0, members) * kept[:, None]
            mine = reduced[..., : level.rank].index_select(0, index[level.source_of])
            outputs.append(torch.baddbmm(layer.biases[members, ranks - 1][:, None], mine, left.mT))
        if level.dense:
            members = index[level.dense_members]
            mine = x.index_select(0, index[level.dense_nodes]) if position else x.expand(level.dense, -1, -1)
            weight, bias = (t.index_select(0, members) for t in (layer.weight, layer.bias))
            outputs.append(torch.baddbmm(bias, mine, weight.mT))
        x = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
        if position < len(stack) - 1:
            x = F.relu_(x)
    return x
