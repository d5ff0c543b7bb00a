"""How certain a measured drop of accuracy is, given that points were chosen by their measurements.

A front holds the luckiest of thousands of measured points, and its smallest "good" one is luckier still.
There are two ways to account for that. On images that had no part in the choice of points, the models of the
front are tested from the largest down, each at the full confidence, until one fails. The order was fixed
before these images were used, so a wrong model is accepted no more often than the confidence allows
(fixed-sequence testing; Maurer, Hothorn and Lehmacher 1995). Without such images the confidence is divided
among all points (Bonferroni).
"""

from collections.abc import Sequence
from itertools import accumulate
from math import sqrt
from statistics import NormalDist

import torch
from torch import Tensor

from arsvd.footprint import rows_at_once
from arsvd.modes import evaluation_mode, unwrapped

_HALVINGS = 50


def drop_bound(lost: int, gained: int, images: int, confidence: float) -> float:
    """Bound the accuracy that a model loses against another one, from their answers to the same images.

    Only images on which the two differ carry information, so the bound is much tighter than the errors of the
    two accuracies suggest. It is the drop at which the score test of a paired difference (Tango 1998,
    Statistics in Medicine 17:891) no longer rejects, with half an image added to those lost: without that
    correction it fails in up to 5.9 % of cases instead of 5 % (enumerated as in
    tests/arsvd/test_confidence.py).

    Args:
        lost: number of images that the other model has right and this one wrong.
        gained: number of images that this model has right and the other one wrong.
        images: number of images in all, at least 1.
        confidence: one-sided confidence, in [0.5, 1).

    Returns:
        The drop that is not exceeded with this confidence, in [-1, 1]; negative where this model is certainly
        better. It is never below the measured drop.

    Raises:
        ValueError: the counts do not fit together, or the confidence is out of range.
    """
    if min(lost, gained) < 0 or images < 1 or lost + gained > images:
        raise ValueError(f"{lost} lost and {gained} gained of {images} images do not fit together")
    if not 0.5 <= confidence < 1:
        raise ValueError(f"confidence must be in [0.5, 1), got {confidence}")
    limit, worse = NormalDist().inv_cdf(confidence), lost + 0.5
    low, high = (lost - gained) / images, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _score(worse, gained, images, middle) <= limit:
            low = middle
        else:
            high = middle
    return high


def _score(lost: float, gained: float, images: int, drop: float) -> float:
    """Return how many standard errors a true drop lies above the measured one."""
    # the likeliest share of gained images, given the drop
    half = -lost - gained + (2 * images - lost + gained) * drop
    root = sqrt(max(0.0, half * half + 8 * images * gained * drop * (1 - drop)))
    variance = images * (2 * (root - half) / (4 * images) + drop * (1 - drop))
    distance = images * drop - (lost - gained)
    if variance <= 0:  # nothing is uncertain where the drop can only be total or none
        return float("inf") if distance > 0 else 0.0
    return distance / sqrt(variance)


def sequence_bounds(reference: Tensor, candidates: Sequence[Tensor], confidence: float) -> list[float]:
    """Bound the drops of models that are tested one after the other until one fails.

    Args:
        reference: flags (images,), True where the reference classifies an image right.
        candidates: flags (images,) of each model on the same images, like `reference`, in an order that does
            not depend on these images: the model that is most likely to pass first.
        confidence: one-sided confidence that no model is accepted wrongly, in [0.5, 1).

    Returns:
        One bound per model, none below the ones before it: a model passes for an allowed drop only where
        every model before it does.

    Raises:
        ValueError: the numbers of images differ, there are none, or the confidence is out of range.
    """
    bounds = [drop_bound(*paired_counts(reference, one), len(reference), confidence) for one in candidates]
    return list(accumulate(bounds, max))


def paired_counts(reference: Tensor, candidate: Tensor) -> tuple[int, int]:
    """Count the images that only the reference, and only the candidate, classifies right.

    Raises:
        ValueError: the numbers of images differ, or there are none.
    """
    if reference.shape != candidate.shape or reference.numel() == 0:
        raise ValueError(
            f"answers to the same images are needed, "
            f"got {tuple(reference.shape)} and {tuple(candidate.shape)}"
        )
    return int((reference & ~candidate).sum()), int((candidate & ~reference).sum())


@torch.no_grad()
def answers(model: torch.nn.Module, inputs: Tensor, labels: Tensor, batch_size: int = 4096) -> Tensor:
    """Tell which rows a model classifies right.

    Args:
        model: model from (rows, …) to logits (rows, classes); it is run in evaluation mode.
        inputs: inputs (rows, …).
        labels: class indices (rows,), int64.
        batch_size: largest number of rows per forward pass; fewer are taken where the model computes much for
            each row.

    Returns:
        Flags (rows,), bool.
    """
    with unwrapped(model) as plain, evaluation_mode(plain):
        batches = inputs.split(rows_at_once(plain, inputs, batch_size))
        return torch.cat([plain(batch).argmax(1) for batch in batches]) == labels
