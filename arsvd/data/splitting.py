"""Stratified, seeded selection of the samples that are held out of a split."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real

import numpy as np
from numpy.typing import NDArray

from arsvd.data.dataset import Split
from arsvd.data.errors import DataError

# Fixed for sources without a test split, so that no validation seed moves an image in or out of test.
TEST_SEED = 1797


def hold_out(
    split: Split, amount: int | float, seed: int, *, classes: Sequence[str], option: str
) -> tuple[Split, Split]:
    """Divide a split in two, with the classes in equal shares in both.

    Args:
        split: samples to divide.
        amount: amount to hold out: an int counts images, a float in (0, 1) is a share of the split.
        seed: non-negative seed. The same seed holds out the same samples on every platform.
        classes: class names, for messages.
        option: name of the option that set `amount`, for messages.

    Returns:
        The samples kept and the samples held out, each in the order of `split`.

    Raises:
        DataError: the amount or the seed cannot be used, or a class has fewer than two images.
    """
    held = held_samples(split.labels.numpy(), amount, seed, classes=classes, option=option)
    return split.take(np.flatnonzero(~held)), split.take(np.flatnonzero(held))


def held_samples(
    labels: NDArray[np.int64], amount: int | float, seed: int, *, classes: Sequence[str], option: str
) -> NDArray[np.bool_]:
    """Choose the samples that `hold_out` holds out.

    Args:
        labels: label of each sample.
        amount: number or share of samples to hold out, see `hold_out`.
        seed: non-negative seed, see `hold_out`.
        classes: class names, for messages.
        option: name of the option that set `amount`, for messages.

    Returns:
        bool `(samples,)`, True for samples that are held out.

    Raises:
        DataError: the amount or the seed cannot be used, or a class has fewer than two images.
    """
    sizes = np.bincount(labels, minlength=len(classes))
    counts = held_counts([int(size) for size in sizes], amount, classes=classes, option=option)
    return _choose(labels, counts, seed)


def held_counts(
    sizes: Sequence[int], amount: int | float, *, classes: Sequence[str], option: str
) -> list[int]:
    """Decide how many samples of each class to hold out, by the method of largest remainders.

    Every class keeps at least one sample and gives up at least one. Equal remainders go to the first class.

    Args:
        sizes: number of samples in each class.
        amount: number or share of samples to hold out, see `hold_out`.
        classes: class names, for messages.
        option: name of the option that set `amount`, for messages.

    Returns:
        One count per class; their sum is exactly the amount.

    Raises:
        DataError: the amount cannot be used, or a class has fewer than two images.
    """
    total = sum(sizes)
    count = _as_count(amount, total, option)
    for name, size in zip(classes, sizes, strict=True):
        if size < 2:
            raise DataError(
                f"class {name!r} has {size} image{'s' if size != 1 else ''} to divide for {option}; "
                "every class needs at least 2, one to train on and one to hold out"
            )
    if count < len(sizes):
        raise DataError(
            f"{option}={amount} is {count} of {total} images: fewer than one for each of the "
            f"{len(sizes)} classes; give at least {len(sizes)}"
        )
    if total - count < len(sizes):
        raise DataError(
            f"{option}={amount} leaves {total - count} of {total} images: fewer than one for each of the "
            f"{len(sizes)} classes; give at most {total - len(sizes)}"
        )
    # Integers throughout: a quota is count * size / total, and a float could round a tie either way.
    counts = [max(1, count * size // total) for size in sizes]
    while (missing := count - sum(counts)) != 0:
        step = 1 if missing > 0 else -1
        movable = [i for i, held in enumerate(counts) if 1 <= held + step < sizes[i]]
        best = max(movable, key=lambda i: step * (count * sizes[i] - counts[i] * total))
        counts[best] += step
    return counts


def _as_count(amount: int | float, total: int, option: str) -> int:
    if isinstance(amount, bool) or not isinstance(amount, Real):
        raise DataError(f"{option} must be a number of images or a share between 0 and 1, got {amount!r}")
    if not isinstance(amount, Integral):
        if not 0 < amount < 1:
            raise DataError(
                f"{option}={amount} is not a share between 0 and 1 (exclusive); "
                f"a number of images is written without a point, like {option}=500"
            )
        return int(float(amount) * total + 0.5)
    count = int(amount)
    if count < 1:
        raise DataError(
            f"{option}={count} holds out no image; give a number from 1 to {total - 1}, "
            "or a share between 0 and 1"
        )
    if count >= total:
        raise DataError(
            f"{option}={count} is not smaller than the {total} images that it is taken from; "
            "give fewer, or a share between 0 and 1"
        )
    return count


def _choose(labels: NDArray[np.int64], counts: Sequence[int], seed: int) -> NDArray[np.bool_]:
    if isinstance(seed, bool) or not isinstance(seed, Integral) or seed < 0:
        raise DataError(f"the split seed must be an integer of at least 0, got {seed!r}")
    # Raw bits: numpy promises the same ones on every platform and in every version, but not the same
    # permutation() (NEP 19). Sorting by them is a permutation.
    keys = np.random.PCG64(int(seed)).random_raw(len(labels))
    order = np.lexsort((keys, labels))
    starts = np.searchsorted(labels[order], np.arange(len(counts)))
    held = np.zeros(len(labels), dtype=np.bool_)
    for start, count in zip(starts, counts, strict=True):
        held[order[start : start + count]] = True
    return held
