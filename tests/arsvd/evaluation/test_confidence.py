"""The bound of a drop, counted out exactly, and how often the choice of a sweep loses more than it says."""

import itertools
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binom
from torch import Tensor, nn

from arsvd.dominance import non_dominated
from arsvd.evaluation.confidence import answers, drop_bound, paired_counts, sequence_bounds

GAINED = (0.0, 0.005, 0.02, 0.06)
DROPS = (0.002, 0.005, 0.01, 0.03, 0.05, 0.1)

cached_bound = cache(drop_bound)


def failing(images: int, lost: float, gained: float, confidence: float) -> float:
    """How often the bound is below the true drop: the chances of every count that makes it so, added up."""
    true, total = lost - gained, 0.0
    for count in range(int(binom.ppf(1 - 1e-9, images, gained)) + 2):
        chance = float(binom.pmf(count, images, gained))
        worst = -1  # the bound grows with the images lost
        while worst + 1 + count <= images and cached_bound(worst + 1, count, images, confidence) < true:
            worst += 1
        if worst >= 0:
            total += chance * float(binom.cdf(worst, images - count, lost / (1 - gained)))
    return total


@pytest.mark.parametrize("images", [60, 120, 500])
@pytest.mark.parametrize("confidence", [0.95, 0.9999])
def test_the_bound_fails_no_more_often_than_it_says(images: int, confidence: float) -> None:
    shares = [
        failing(images, gained + drop, gained, confidence)
        for gained, drop in itertools.product(GAINED, DROPS)
    ]
    assert max(shares) <= 1 - confidence
    assert max(shares) > (1 - confidence) / 50  # nor far too seldom


@settings(max_examples=60, deadline=None)
@given(st.tuples(*[st.integers(0, 40)] * 3).filter(any), st.floats(0.5, 0.999))
def test_is_never_below_the_measured_drop_nor_above_a_total_one(
    counts: tuple[int, int, int], confidence: float
) -> None:
    lost, gained, equal = counts
    images = lost + gained + equal
    assert (lost - gained) / images <= drop_bound(lost, gained, images, confidence) <= 1.0


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 30), st.integers(0, 30), st.integers(61, 500), st.floats(0.5, 0.999))
def test_grows_with_images_lost_and_falls_with_images_gained(
    lost: int, gained: int, images: int, confidence: float
) -> None:
    here = drop_bound(lost, gained, images, confidence)
    assert drop_bound(lost + 1, gained, images, confidence) > here
    assert drop_bound(lost, gained + 1, images, confidence) < here + 1e-12
    assert drop_bound(lost, gained, images, (1 + confidence) / 2) >= here


def test_shrinks_towards_the_measured_drop_with_more_images() -> None:
    slack = [drop_bound(6 * times, 2 * times, 200 * times, 0.95) - 0.02 for times in (1, 10, 100)]
    assert slack == sorted(slack, reverse=True)
    assert slack[-1] < slack[0] / 5  # about the root of 100


def test_few_images_without_a_difference_prove_little() -> None:
    # 120 images answered alike: a model that loses 2.4 % answers so in one case of twenty
    assert 0.0247 < drop_bound(0, 0, 120, 0.95) < 0.035
    assert drop_bound(0, 0, 5000, 0.95) < 0.001
    assert drop_bound(0, 30, 100, 0.95) < 0  # surely better


@pytest.mark.parametrize(
    ("lost", "gained", "images", "confidence", "says"),
    [
        pytest.param(3, 4, 6, 0.95, "3 lost and 4 gained of 6 images do not fit together", id="too many"),
        pytest.param(0, 0, 0, 0.95, "0 lost and 0 gained of 0 images", id="no images"),
        pytest.param(-1, 0, 5, 0.95, "-1 lost", id="negative"),
        pytest.param(1, 1, 5, 1.0, r"confidence must be in \[0.5, 1\), got 1.0", id="certainty"),
        pytest.param(1, 1, 5, 0.49, r"got 0.49", id="less than even"),
        pytest.param(1, 1, 5, float("nan"), r"got nan", id="no number"),
    ],
)
def test_refuses(lost: int, gained: int, images: int, confidence: float, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        drop_bound(lost, gained, images, confidence)


def test_answers_are_counted_in_pairs() -> None:
    reference = torch.tensor([True, True, True, False, False])
    assert paired_counts(reference, torch.tensor([False, False, True, True, False])) == (2, 1)
    for other in (torch.ones(4).bool(), torch.ones(0).bool()):
        with pytest.raises(ValueError, match=r"answers to the same images are needed, got \(5,\) and"):
            paired_counts(reference, other)


def test_a_model_holds_only_where_every_model_before_it_does() -> None:
    reference = torch.ones(1000).bool()

    def losing(count: int) -> Tensor:
        own = reference.clone()
        own[:count] = False
        return own

    bounds = sequence_bounds(reference, [losing(0), losing(20), losing(5), losing(30)], 0.95)
    assert bounds == [drop_bound(lost, 0, 1000, 0.95) for lost in (0, 20, 20, 30)]
    assert sequence_bounds(reference, [], 0.95) == []


def sweep(rng: np.random.Generator, images: int) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """Draw a sweep: the best dense member's true accuracy, and sizes and true accuracies of 3,000 points.

    Accuracies fall with the size, and around the allowed drop hundreds of points crowd: the lucky ones among
    them are what a choice that does not count itself takes.
    """
    dense = rng.uniform(0.85, 0.98)
    sizes = np.exp(rng.uniform(np.log(1e3), np.log(1e6), 3000))
    steepness = rng.uniform(0.002, 0.02)
    drop = steepness * np.clip(np.log(1e6 / sizes) - rng.uniform(0, 3), 0, None) + rng.normal(0, 0.002, 3000)
    return dense, sizes, np.clip(dense - drop, 0.01, 0.999)


@pytest.mark.parametrize("images", [120, 500, 5000])
def test_the_chosen_model_of_a_sweep_loses_more_than_allowed_in_one_of_twenty_at_most(images: int) -> None:
    rng, allowed, sweeps = np.random.default_rng(images), 0.02, 500
    wrong = chosen = naive = 0
    for _ in range(sweeps):
        dense, sizes, true = sweep(rng, images)
        measured = rng.binomial(images, true) / images
        front = np.flatnonzero(non_dominated(list(zip(sizes, -measured, strict=True))))
        front = front[np.argsort(-sizes[front])]
        within = [i for i in front if measured[i] >= dense - allowed]
        naive += bool(within) and dense - true[within[-1]] > allowed
        # on fresh images models of one sweep agree in most answers: each image has a difficulty of its own
        difficulty = rng.random(images)
        reference = torch.from_numpy((0.8 * difficulty + 0.2 * rng.random(images)) < quantile(dense))
        own = [
            torch.from_numpy((0.8 * difficulty + 0.2 * rng.random(images)) < quantile(true[i])) for i in front
        ]
        held = [
            i
            for i, bound in zip(front, sequence_bounds(reference, own, 0.95), strict=True)
            if bound <= allowed
        ]
        if held:
            chosen += 1
            wrong += dense - true[held[-1]] > allowed
    assert wrong <= 0.05 * sweeps
    assert naive > 0.2 * sweeps  # the choice as measured is wrong: the sweeps are hard enough to tell
    assert images < 5000 or chosen > 0.5 * sweeps


def quantile(accuracy: float) -> float:
    """Where 0.8 u + 0.2 v of two even draws has this share below it."""
    accuracy = float(accuracy)
    if accuracy <= 0.125:
        return (accuracy * 0.32) ** 0.5
    if accuracy <= 0.875:
        return 0.2 + 0.8 * (accuracy - 0.125)
    return 1 - ((1 - accuracy) * 0.32) ** 0.5


@pytest.mark.parametrize("batch_size", [1, 4, 4096])
def test_answers_are_right_where_the_largest_logit_is_the_label(batch_size: int) -> None:
    logits = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.2, 0.1], [0.0, 3.0], [2.0, 1.0]])
    labels = torch.tensor([1, 0, 1, 1, 1])
    found = answers(nn.Identity(), logits, labels, batch_size)
    assert found.tolist() == [True, True, False, True, False]
