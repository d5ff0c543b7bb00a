"""Images that occur more than once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Once:
    """Which images stay, so that none occurs twice.

    Args:
        kept: bool `(samples,)`, True for images that stay.
        distinct: number of different images.
        copies: number of images left out that equal one that stays, of the same rank.
        repeated: number of images left out that equal one that stays, of a higher rank.
        contradicting: images that are equal and have different labels, as groups of indices; none of them
            stays.
    """

    kept: NDArray[np.bool_]
    distinct: int
    copies: int
    repeated: int
    contradicting: Sequence[Sequence[int]]


def keep_once(images: NDArray[Any], labels: NDArray[np.int64], rank: NDArray[np.int64]) -> Once:
    """Choose one of each set of equal images: the first one of the highest rank.

    Args:
        images: contiguous array `(samples, channels, height, width)`.
        labels: class indices `(samples,)`.
        rank: ranks of the splits `(samples,)`; an image that splits share stays in the one of the highest
            rank.
    """
    first: dict[bytes, int] = {}
    equal: dict[int, list[int]] = {}
    for index, image in enumerate(images):
        original = first.setdefault(hashlib.sha256(image.data).digest(), index)
        if original != index:
            equal.setdefault(original, [original]).append(index)
    kept = np.ones(len(images), dtype=np.bool_)
    copies = repeated = 0
    contradicting = []
    for group in equal.values():
        kept[group] = False
        if len(set(labels[group].tolist())) > 1:
            contradicting.append(group)
            continue
        best = max(group, key=lambda index: (rank[index], -index))
        kept[best] = True
        lower = int(np.count_nonzero(rank[group] < rank[best]))
        copies += len(group) - 1 - lower
        repeated += lower
    return Once(kept, len(first), copies, repeated, contradicting)
