"""Stratified hold-out against brute force."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from arsvd.data import DataError, Split
from arsvd.data.splitting import held_counts, hold_out


def split_of(sizes: list[int]) -> Split:
    """A split whose every image is its own index, in two pixels, with the classes interleaved."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    labels = labels[np.random.default_rng(0).permutation(len(labels))]
    index = np.arange(len(labels))
    pixels = np.stack([index // 256, index % 256], axis=1).astype(np.uint8)
    return Split(torch.from_numpy(pixels.reshape(-1, 1, 1, 2)), torch.from_numpy(labels))


def indices(split: Split) -> list[int]:
    return [int(high) * 256 + int(low) for high, low in split.images.reshape(-1, 2)]


def names(count: int) -> list[str]:
    return [f"class {i}" for i in range(count)]


@st.composite
def amounts(draw: st.DrawFn) -> tuple[list[int], int]:
    sizes = draw(st.lists(st.integers(2, 12), min_size=2, max_size=4))
    return sizes, draw(st.integers(len(sizes), sum(sizes) - len(sizes)))


@given(amounts())
@settings(max_examples=150, deadline=None)
def test_counts_are_the_nearest_possible_to_equal_shares(case: tuple[list[int], int]) -> None:
    sizes, count = case
    total = sum(sizes)

    def distance(counts: tuple[int, ...]) -> Fraction:
        quotas = [Fraction(count * size, total) for size in sizes]
        return sum(((held - quota) ** 2 for held, quota in zip(counts, quotas, strict=True)), Fraction(0))

    candidates = [c for c in product(*(range(1, size) for size in sizes)) if sum(c) == count]
    got = tuple(held_counts(sizes, count, classes=names(len(sizes)), option="validation"))
    assert got in candidates
    assert distance(got) == min(map(distance, candidates))


@pytest.mark.parametrize(
    ("sizes", "amount", "expected"),
    [
        ([50, 50], 10, [5, 5]),
        ([50, 50], 11, [6, 5]),
        ([60, 30, 10], 10, [6, 3, 1]),
        ([1000, 1000, 3], 100, [50, 49, 1]),
        ([2, 100], 99, [1, 98]),
        ([2, 2], 2, [1, 1]),
        ([5000] * 10, 5000, [500] * 10),
        ([10, 10], 0.25, [3, 2]),
        ([60, 30, 10], 0.5, [30, 15, 5]),
        ([60, 30, 10], np.float32(0.5), [30, 15, 5]),
        ([60, 30, 10], np.int64(50), [30, 15, 5]),
    ],
    ids=str,
)
def test_counts_by_hand(sizes: list[int], amount: int | float, expected: list[int]) -> None:
    assert held_counts(sizes, amount, classes=names(len(sizes)), option="validation") == expected


@pytest.mark.parametrize("amount", [7, 20, 0.3])
@pytest.mark.parametrize("seed", [0, 1, 2**40])
def test_the_two_parts_are_disjoint_complete_stratified_and_in_order(amount: int | float, seed: int) -> None:
    sizes = [30, 12, 5]
    whole = split_of(sizes)
    kept, held = hold_out(whole, amount, seed, classes=names(3), option="validation")
    assert sorted(indices(kept) + indices(held)) == list(range(47))
    assert indices(kept) == sorted(indices(kept))
    assert indices(held) == sorted(indices(held))
    expected = held_counts(sizes, amount, classes=names(3), option="validation")
    assert np.bincount(held.labels.numpy(), minlength=3).tolist() == expected
    for part in (kept, held):
        assert torch.equal(part.labels, whole.labels[torch.tensor(indices(part))])


def test_the_seed_alone_chooses_the_samples() -> None:
    whole = split_of([30, 30])
    chosen = [
        indices(hold_out(whole, 20, seed, classes=names(2), option="validation")[1]) for seed in (0, 0, 1, 2)
    ]
    assert chosen[0] == chosen[1]
    assert len({tuple(one) for one in chosen}) == 3


def test_the_same_samples_on_every_platform_and_version() -> None:
    """The expected indices are what this very call gave with numpy 2.4 on x86-64."""
    whole = Split(torch.arange(12, dtype=torch.uint8).reshape(-1, 1, 1, 1), torch.arange(12) % 2)
    held = hold_out(whole, 4, 0, classes=names(2), option="validation")[1]
    assert held.images.reshape(-1).tolist() == [2, 3, 8, 11]


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_a_larger_amount_contains_a_smaller_one(seed: int) -> None:
    whole = split_of([20, 20])
    small, large = (hold_out(whole, n, seed, classes=names(2), option="test")[1] for n in (6, 16))
    assert set(indices(small)) < set(indices(large))


@pytest.mark.parametrize(
    ("sizes", "amount", "message"),
    [
        ([5, 5], 0, "validation=0 holds out no image; give a number from 1 to 9"),
        ([5, 5], -3, "validation=-3 holds out no image"),
        ([5, 5], 10, "validation=10 is not smaller than the 10 images"),
        ([5, 5], 70_000, "validation=70000 is not smaller than the 10 images"),
        ([5, 5], 1, r"validation=1 is 1 of 10 images: fewer than one for each of the 2 classes.*at least 2"),
        ([5, 5], 9, "validation=9 leaves 1 of 10 images: fewer than one for each .*at most 8"),
        ([5, 5], 0.01, "validation=0.01 is 0 of 10 images"),
        ([5, 5], 0.99, "validation=0.99 leaves 0 of 10 images"),
        ([5, 5], 0.0, r"validation=0.0 is not a share between 0 and 1 .*like validation=500"),
        ([5, 5], 1.0, "validation=1.0 is not a share"),
        ([5, 5], -0.5, "validation=-0.5 is not a share"),
        ([5, 5], float("nan"), "validation=nan is not a share"),
        ([5, 5], float("inf"), "validation=inf is not a share"),
        ([5, 5], True, "must be a number of images or a share between 0 and 1, got True"),
        ([5, 5], "5", "must be a number of images or a share between 0 and 1, got '5'"),
        ([5, 5], None, "got None"),
        ([5, 1], 2, "class 'class 1' has 1 image to divide for validation; every class needs at least 2"),
        ([5, 0], 2, "class 'class 1' has 0 images to divide"),
    ],
    ids=str,
)
def test_amounts_that_cannot_be_held_out(sizes: list[int], amount: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        hold_out(split_of(sizes), amount, 0, classes=names(len(sizes)), option="validation")


@pytest.mark.parametrize("seed", [-1, 1.5, "0", None, True])
def test_seeds_that_are_not_whole_numbers(seed: int) -> None:
    with pytest.raises(DataError, match="the split seed must be an integer of at least 0"):
        hold_out(split_of([5, 5]), 4, seed, classes=names(2), option="validation")
