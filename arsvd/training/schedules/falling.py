"""A fall along a cosine."""

import math


def cosine(progress: float) -> float:
    """Fall along a cosine from the peak to 0.

    Args:
        progress: share of the steps that are done, in [0, 1].

    Source:
        Loshchilov and Hutter 2017, without restarts.
    """
    return along_cosine(1.0, 0.0, progress)


def along_cosine(start: float, end: float, share: float) -> float:
    """Return the value between two ends, at a share of half a cosine's period."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
