"""How much accuracy the best model of a sweep loses, on which images, and how sure that is."""

import math

from arsvd.evaluation.confidence import drop_bound
from sweeps.ledger.records import Front, FrontPoint

_DOUBTFUL = 2.0  # standard errors of a difference that chance does not explain


def assurance(front: Front, max_drop: float) -> list[str]:
    """Say how sure the best model is, or why there is none; each doubt has a line of its own.

    Args:
        front: final front.
        max_drop: largest drop in accuracy allowed for the best model.
    """
    if front.best is None:
        return _why_none(front, max_drop)
    return [_loss(front, front.best), *_doubts(front, front.best)]


def _why_none(front: Front, max_drop: float) -> list[str]:
    if front.confidence is None:
        return []
    if not front.confirmation_images:
        return [
            f"without confirmation images the {front.confidence:.0%} are shared out among all points: "
            "hold some out with dataset.confirmation, or allow more with select.max_drop"
        ]
    # for models that answer every image alike; no model can be shown to lose less
    least = drop_bound(0, 0, front.confirmation_images, front.confidence)
    if least <= max_drop:
        return []
    return [
        f"{front.confirmation_images:,} confirmation images cannot show a drop below {_points(least)}: "
        "hold out more with dataset.confirmation, or allow more with select.max_drop"
    ]


def _loss(front: Front, best: FrontPoint) -> str:
    change = _change(front.dense_accuracy - best.point.accuracy)
    told = f"against the best dense member it {change} on {front.validation_images:,} validation images"
    if front.dense is not None and front.dense.test is not None and best.test is not None:
        change = _change(front.dense.test.accuracy - best.test.accuracy)
        told += f" and {change} on {front.test_images:,} test images"
    if front.confidence is None or best.assured is None:
        return f"{told}; taken as measured (select.confidence is null)"
    kind = "confirmation" if front.confirmation_images else "validation"
    images = front.confirmation_images or front.validation_images
    bound = front.dense_accuracy - best.assured
    return f"{told}; at most {_points(bound)} at {front.confidence:.0%} confidence ({images:,} {kind} images)"


def _doubts(front: Front, best: FrontPoint) -> list[str]:
    """Warn where validation and test disagree about the model."""
    if best.test is None or not front.validation_images or not front.test_images:
        return []
    accuracies = (best.point.accuracy, front.validation_images), (best.test.accuracy, front.test_images)
    error = _DOUBTFUL * math.sqrt(sum(share * (1 - share) / images for share, images in accuracies))
    gap = abs(best.point.accuracy - best.test.accuracy)
    if gap <= error:
        return []
    return [
        f"warning: its validation and test accuracy differ by {_points(gap)}, of which chance explains "
        f"{100 * error:.2f}: the validation images are too few, or unlike the test images"
    ]


def _change(lost: float) -> str:
    return f"gains {_points(-lost)}" if lost < 0 else f"loses {_points(lost)}"


def _points(share: float) -> str:
    return f"{100 * share:.2f} points"
