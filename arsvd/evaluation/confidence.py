"""How sure a measured drop of accuracy is, the choosing counted.

A front holds the luckiest of thousands of measured points, and its smallest "good" one is luckier still. Two
ways count that. On images that no point was chosen by, the front is walked from its largest model down, and
each is tested at the full confidence until the first one fails. The order was fixed before these images were
looked at, so a false model is accepted no more often than the confidence says (fixed-sequence testing;
Maurer, Hothorn and Lehmacher 1995). Without such images the confidence is shared out among all
points (Bonferroni).
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
    """Bound the accuracy that a model loses against another one, from its answers to the same images.

    Only images on which the two differ carry information, so the bound is much tighter than the two
    accuracies' own errors suggest. It is where the score test of a paired difference (Tango 1998, Statistics
    in Medicine 17:891) no longer rejects, with half an image added to those lost: without that correction it
    fails in up to 5.9 % instead of 5 % (counted out as in tests/arsvd/test_confidence.py).

    Args:
        lost: images that the other model has right and this one wrong.
        gained: images that this model has right and the other one wrong.
        images: images in all, at least 1.
        confidence: one-sided, in [0.5, 1).

    Returns:
        The drop that is not exceeded with this confidence, in [-1, 1]; negative where this model is surely
        better. Never below the drop that was measured.

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
    """How many standard errors a true drop lies above the measured one."""
    # the likeliest share of gained images where the drop is as given
    half = -lost - gained + (2 * images - lost + gained) * drop
    root = sqrt(max(0.0, half * half + 8 * images * gained * drop * (1 - drop)))
    variance = images * (2 * (root - half) / (4 * images) + drop * (1 - drop))
    distance = images * drop - (lost - gained)
    if variance <= 0:  # no doubt is left where the drop can only be total or none
        return float("inf") if distance > 0 else 0.0
    return distance / sqrt(variance)


def sequence_bounds(reference: Tensor, candidates: Sequence[Tensor], confidence: float) -> list[float]:
    """Bound the drops of models that are tested one after the other until one fails.

    Args:
        reference: (images,) whether the reference classifies each image right.
        candidates: (images,) the same for each model, on the same images, in an order that these images had
            no say in: the model that is surest to hold first.
        confidence: that no model is accepted falsely, one-sided, in [0.5, 1).

    Returns:
        One bound a model, none below the ones before it: a model holds for an allowed drop only where every
        model before it does.

    Raises:
        ValueError: the images differ in number, there are none, or the confidence is out of range.
    """
    bounds = [drop_bound(*paired_counts(reference, one), len(reference), confidence) for one in candidates]
    return list(accumulate(bounds, max))


def paired_counts(reference: Tensor, candidate: Tensor) -> tuple[int, int]:
    """Count the images that only the reference, and only the candidate, classifies right.

    Raises:
        ValueError: the images differ in number, or there are none.
    """
    if reference.shape != candidate.shape or reference.numel() == 0:
        raise ValueError(
            f"answers to the same images are needed, "
            f"got {tuple(reference.shape)} and {tuple(candidate.shape)}"
        )
    return int((reference & ~candidate).sum()), int((candidate & ~reference).sum())


@torch.no_grad()
def answers(model: torch.nn.Module, inputs: Tensor, labels: Tensor, batch_size: int = 4096) -> Tensor:
    """Say which rows a model classifies right.

    Args:
        model: maps (rows, …) to (rows, classes); it is run in evaluation mode.
        inputs: (rows, …).
        labels: (rows,) int64.
        batch_size: the most rows that a forward pass takes; fewer where it computes much for each.

    Returns:
        (rows,) bool.
    """
    with unwrapped(model) as plain, evaluation_mode(plain):
        batches = inputs.split(rows_at_once(plain, inputs, batch_size))
        return torch.cat([plain(batch).argmax(1) for batch in batches]) == labels
