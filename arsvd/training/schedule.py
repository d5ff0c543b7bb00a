"""Learning-rate schedules: the share of the peak rate at each step."""

import math
from collections.abc import Callable

Schedule = Callable[[float], float]

WARM_UP = 0.3
START = 1 / 25
END = 1e-4


def one_cycle(progress: float) -> float:
    """Rise along a cosine for 30 % of the steps, then fall along one to almost 0.

    Args:
        progress: steps done of all, in [0, 1].

    Source:
        Smith and Topin 2019, with the proportions of torch.optim.lr_scheduler.OneCycleLR.
    """
    if progress < WARM_UP:
        return _cosine(START, 1.0, progress / WARM_UP)
    return _cosine(1.0, START * END, (progress - WARM_UP) / (1 - WARM_UP))


def cosine(progress: float) -> float:
    """Fall along a cosine from the peak to 0 (Loshchilov and Hutter 2017, without restarts)."""
    return _cosine(1.0, 0.0, progress)


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


SCHEDULES: dict[str, Schedule] = {"onecycle": one_cycle, "cosine": cosine}
