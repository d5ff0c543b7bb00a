"""How sure a measured drop of accuracy is."""

import numpy as np
import torch
from torch import Tensor

RESAMPLES = 20_000


def drop_bound(
    reference: Tensor, candidate: Tensor, confidence: float, resamples: int = RESAMPLES, seed: int = 0
) -> float:
    """Bound the accuracy that a model loses against another one, by a paired bootstrap over images.

    Only images on which the two differ carry information, so the bound is much tighter than the two
    accuracies' own errors suggest. Drawing images with replacement is drawing the numbers of images lost,
    gained and equal from a multinomial distribution, which is what is done.

    Args:
        reference: (images,) whether the reference classifies each image right.
        candidate: (images,) the same for the candidate, on the same images.
        confidence: one-sided, in [0.5, 1).
        resamples: bootstrap draws.
        seed: of the draws.

    Returns:
        The drop that is not exceeded with this confidence; negative where the candidate is surely better.
        Never below the drop that was measured.

    Raises:
        ValueError: the images differ in number, there are none, or the confidence is out of range.
    """
    if reference.shape != candidate.shape or reference.numel() == 0:
        raise ValueError(
            f"answers to the same images are needed, "
            f"got {tuple(reference.shape)} and {tuple(candidate.shape)}"
        )
    if not 0.5 <= confidence < 1:
        raise ValueError(f"confidence must be in [0.5, 1), got {confidence}")
    images = reference.numel()
    lost = int((reference & ~candidate).sum())
    gained = int((candidate & ~reference).sum())
    shares = np.array([lost, gained, images - lost - gained]) / images
    draws = np.random.default_rng(seed).multinomial(images, shares, size=resamples)
    bound = float(np.quantile((draws[:, 0] - draws[:, 1]) / images, confidence))
    return max(bound, (lost - gained) / images)


@torch.no_grad()
def answers(model: torch.nn.Module, inputs: Tensor, labels: Tensor, batch_size: int = 4096) -> Tensor:
    """Say which rows a model classifies right.

    Args:
        model: in evaluation mode, maps (rows, …) to (rows, classes).
        inputs: (rows, …).
        labels: (rows,) int64.
        batch_size: rows a forward pass takes.

    Returns:
        (rows,) bool.
    """
    parts = [model(batch).argmax(1) for batch in inputs.split(batch_size)]
    return torch.cat(parts) == labels
