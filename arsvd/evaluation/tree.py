"""Which products many members need at many rank tuples, layer by layer, in batches.

Pairs of a member and a rank tuple are the leaves of a tree, which an `Evaluator` walks one branch at a time:
a node of layer l is a member with its ranks up to l. Here all nodes of a layer are one batch. A node's
product with U^T W is computed once, for the largest rank below it; each rank below then uses its share of the
columns, and the others are masked in its left factor. Everything here happens on the host.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from arsvd.evaluation.evaluator import RankTuple
from arsvd.formats.low_rank import TILE

Pair = tuple[int, RankTuple]  # a member's position in its group, and its ranks: all of them or the first ones


class Index:
    """Positions for the device, collected on the host so that one transfer moves them all."""

    def __init__(self) -> None:
        self._numbers: list[int] = []

    def add(self, numbers: Iterable[int]) -> slice:
        """Append numbers; return the slice that they take."""
        start = len(self._numbers)
        self._numbers.extend(numbers)
        return slice(start, len(self._numbers))

    def on(self, device: torch.device) -> Tensor:
        """Return all numbers on a device, as int64."""
        return torch.tensor(self._numbers, dtype=torch.int64).to(device)


@dataclass(frozen=True)
class Level:
    """One layer of a chunk: its nodes with a rank, then its dense nodes. Slices refer to the index.

    Attributes:
        rank: largest rank, rounded up to whole tiles.
        ranked: number of nodes with a rank.
        sources: slice of the nodes of the layer below that have children with a rank, each once.
        source_members: slice of the members of the sources.
        source_of: slice of the place of each ranked node's parent among the sources; of each ranked node's
            member in the first layer, whose products a whole group shares.
        members: slice of the members of the nodes with a rank.
        ranks: slice of the ranks of the nodes with a rank.
        dense: number of dense nodes.
        dense_nodes: slice of the nodes of the layer below that are the parents of the dense nodes.
        dense_members: slice of the members of the dense nodes.
    """

    rank: int
    ranked: int
    sources: slice
    source_members: slice
    source_of: slice
    members: slice
    ranks: slice
    dense: int
    dense_nodes: slice
    dense_members: slice


@dataclass(frozen=True)
class Chunk:
    """Pairs that are run together, in the order of their logits, and the levels that lead to them."""

    pairs: list[Pair]
    levels: list[Level]


def chunked(pairs: Iterable[Pair], full: Sequence[int], size: int, index: Index) -> list[Chunk]:
    """Split the pairs of a group of members into chunks.

    Args:
        pairs: members and rank tuples, each pair once.
        full: largest possible rank of each layer.
        size: largest number of pairs in a chunk, and so of nodes in each of its layers.
        index: index that collects the positions that the levels need.
    """
    # by the first rank, so that little of the widest layer's factors is masked, and pairs that share a node
    # of the first layer stay neighbours
    ordered = sorted(pairs, key=lambda pair: (_order(pair[1][0]), pair[0], [_order(r) for r in pair[1]]))
    return [_chunk(ordered[start : start + size], full, index) for start in range(0, len(ordered), size)]


def whole_tiles(ranks: Iterable[int | None], full: int) -> int:
    """Return the largest rank, rounded up to whole tiles to suit kernels; one tile where all are dense."""
    largest = max((rank for rank in ranks if rank is not None), default=1)
    return min(full, -(-largest // TILE) * TILE)


def _order(rank: int | None) -> tuple[bool, int]:
    return (rank is None, rank or 0)


def _chunk(pairs: Sequence[Pair], full: Sequence[int], index: Index) -> Chunk:
    levels: list[Level] = []
    nodes = list(dict.fromkeys((member, key[:0]) for member, key in pairs))
    for layer, most in enumerate(full):
        rank = whole_tiles((key[layer] for _, key in pairs), most)
        level, nodes = _level(nodes, [(member, key[: layer + 1]) for member, key in pairs], rank, index)
        levels.append(level)
    return Chunk(nodes, levels)


def _level(below: Sequence[Pair], paths: Sequence[Pair], rank: int, index: Index) -> tuple[Level, list[Pair]]:
    """Make one layer's level from the nodes below it and the pairs' ranks up to it; also return its nodes."""
    place = {node: position for position, node in enumerate(below)}
    nodes = dict.fromkeys(paths)
    ranked = [(member, key) for member, key in nodes if key[-1] is not None]
    dense = [(member, key) for member, key in nodes if key[-1] is None]
    sources = list(dict.fromkeys((member, key[:-1]) for member, key in ranked))
    source_place = {node: position for position, node in enumerate(sources)}
    first = len(paths[0][1]) == 1
    level = Level(
        rank=rank,
        ranked=len(ranked),
        sources=index.add(place[node] for node in sources),
        source_members=index.add(member for member, _ in sources),
        source_of=index.add(member if first else source_place[member, key[:-1]] for member, key in ranked),
        members=index.add(member for member, _ in ranked),
        ranks=index.add(min(key[-1] or 0, rank) for _, key in ranked),
        dense=len(dense),
        dense_nodes=index.add(place[member, key[:-1]] for member, key in dense),
        dense_members=index.add(member for member, _ in dense),
    )
    return level, ranked + dense
