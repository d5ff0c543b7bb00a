"""What the figure and the page share: the part of the front that is drawn, and the colours."""

import math
from dataclasses import dataclass

from sweeps.ledger.records import Front

OWN_COLOUR = "#1b5fa7"
BASELINE_COLOURS = ("#d1731f", "#7d7d7d", "#6a9a3a", "#9a5ea1")
_WINDOW = 0.15


@dataclass(frozen=True)
class Window:
    """The part of the plane that is drawn.

    Attributes:
        low: lowest accuracy, in [0, 1].
        high: highest accuracy, in [0, 1].
        left: smallest size.
        right: largest size.
        hidden: number of validation points that lie outside.
    """

    low: float
    high: float
    left: float
    right: float
    hidden: int


def window(front: Front) -> Window:
    """Choose what to draw: everything, but no accuracy more than 15 points below the best dense network.

    Nobody ships a model far below that, and points there would squeeze the part that matters.

    Args:
        front: front to draw.
    """
    everything = [entry for baseline in front.baselines.values() for entry in baseline.points]
    everything += front.points
    accuracies = [entry.point.accuracy for entry in everything]
    accuracies += [entry.test.accuracy for entry in everything if entry.test is not None]
    floor = max(min([front.dense_accuracy, *accuracies]), front.dense_accuracy - _WINDOW)
    # a front that lies below the window as a whole is drawn nevertheless
    floor = min(floor, max(accuracies, default=floor))
    top = max([front.dense_accuracy, *accuracies])
    margin = max(0.05 * (top - floor), 0.002)
    seen = [entry.point.cost.numbers for entry in everything if entry.point.accuracy >= floor - margin]
    sizes = [front.reference_params, *seen]
    return Window(
        low=max(0.0, floor - margin),
        high=min(1.0, top + margin),
        left=min(sizes) / 1.2,
        right=max(sizes) * 1.2,
        hidden=len(everything) - len(seen),
    )


def standard_error(front: Front) -> float | None:
    """Estimate a standard error of the best dense validation accuracy; None where images were not counted."""
    if front.validation_images < 1:
        return None
    share = front.dense_accuracy
    return math.sqrt(share * (1 - share) / front.validation_images)
