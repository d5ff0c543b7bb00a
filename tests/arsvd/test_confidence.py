"""The bound of a drop, against a bootstrap that draws images one by one."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from arsvd.confidence import answers, drop_bound

# name: images lost, gained, right in both, wrong in both
CASES = {
    "loses a little": (12, 4, 380, 104),
    "gains a little": (4, 12, 380, 104),
    "as many lost as gained": (25, 25, 400, 50),
    "differs on every image": (60, 40, 0, 0),
    "few images": (3, 1, 20, 6),
}


def paired(lost: int, gained: int, right: int, wrong: int) -> tuple[Tensor, Tensor]:
    """Answers of a reference and a candidate, shuffled alike."""
    reference = torch.tensor([True] * lost + [False] * gained + [True] * right + [False] * wrong)
    candidate = torch.tensor([False] * lost + [True] * gained + [True] * right + [False] * wrong)
    order = torch.randperm(len(reference), generator=torch.Generator().manual_seed(0))
    return reference[order], candidate[order]


def image_by_image(reference: Tensor, candidate: Tensor, confidence: float, resamples: int) -> float:
    """The textbook form: draw images with replacement and count again on each draw."""
    difference = reference.numpy().astype(int) - candidate.numpy().astype(int)
    draws = np.random.default_rng(1).integers(0, len(difference), (resamples, len(difference)))
    return float(np.quantile(difference[draws].mean(1), confidence))


@pytest.mark.parametrize("counts", CASES.values(), ids=CASES)
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_equals_a_bootstrap_image_by_image(counts: tuple[int, int, int, int], confidence: float) -> None:
    reference, candidate = paired(*counts)
    brute = image_by_image(reference, candidate, confidence, 20_000)
    # both are quantiles of 20,000 draws of a count: they may lie one image apart
    assert drop_bound(reference, candidate, confidence) == pytest.approx(brute, abs=1.01 / len(reference))


@settings(max_examples=60, deadline=None)
@given(st.tuples(*[st.integers(0, 40)] * 4).filter(any), st.floats(0.5, 0.999))
def test_is_never_below_the_measured_drop_nor_above_a_total_one(
    counts: tuple[int, int, int, int], confidence: float
) -> None:
    reference, candidate = paired(*counts)
    measured = float(reference.double().mean() - candidate.double().mean())
    assert measured - 1e-9 <= drop_bound(reference, candidate, confidence, resamples=500) <= 1.0


@pytest.mark.parametrize("counts", CASES.values(), ids=CASES)
def test_grows_with_the_confidence(counts: tuple[int, int, int, int]) -> None:
    bounds = [drop_bound(*paired(*counts), confidence) for confidence in (0.5, 0.7, 0.9, 0.99, 0.999)]
    assert bounds == sorted(bounds)
    assert bounds[0] < bounds[-1]


def test_shrinks_towards_the_measured_drop_with_more_images() -> None:
    slack = [
        drop_bound(*paired(6 * times, 2 * times, 180 * times, 12 * times), 0.95) - 0.02
        for times in (1, 10, 100)
    ]
    assert slack == sorted(slack, reverse=True)
    assert slack[-1] < slack[0] / 5  # about the root of 100


def test_equal_answers_are_a_certain_tie_and_a_repeat_is_equal() -> None:
    reference, candidate = paired(0, 0, 30, 20)
    assert drop_bound(reference, candidate, 0.999) == 0.0
    reference, candidate = paired(9, 3, 30, 20)
    assert drop_bound(reference, candidate, 0.9) == drop_bound(reference, candidate, 0.9)
    # a candidate that is surely better has a negative bound
    assert drop_bound(*paired(0, 30, 60, 10), 0.95) < 0


@pytest.mark.parametrize(
    ("reference", "candidate", "confidence", "says"),
    [
        pytest.param(3, 4, 0.95, r"the same images are needed, got \(3,\) and \(4,\)", id="other images"),
        pytest.param(0, 0, 0.95, r"got \(0,\) and \(0,\)", id="no images"),
        pytest.param(3, 3, 1.0, r"confidence must be in \[0.5, 1\), got 1.0", id="certainty"),
        pytest.param(3, 3, 0.49, r"got 0.49", id="less than even"),
        pytest.param(3, 3, float("nan"), r"got nan", id="no number"),
    ],
)
def test_refuses(reference: int, candidate: int, confidence: float, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        drop_bound(torch.ones(reference).bool(), torch.ones(candidate).bool(), confidence)


@pytest.mark.parametrize("batch_size", [1, 4, 4096])
def test_answers_are_right_where_the_largest_logit_is_the_label(batch_size: int) -> None:
    logits = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.2, 0.1], [0.0, 3.0], [2.0, 1.0]])
    labels = torch.tensor([1, 0, 1, 1, 1])
    found = answers(nn.Identity(), logits, labels, batch_size)
    assert found.tolist() == [True, True, False, True, False]
