"""A rise, then a fall."""

from arsvd.training.schedules.falling import along_cosine

WARM_UP = 0.3
START = 1 / 25
END = 1e-4


def one_cycle(progress: float) -> float:
    """Rise along a cosine for 30 % of the steps, then fall along one to almost 0.

    Args:
        progress: share of the steps that are done, in [0, 1].

    Source:
        Smith and Topin 2019, with the proportions of torch.optim.lr_scheduler.OneCycleLR.
    """
    if progress < WARM_UP:
        return along_cosine(START, 1.0, progress / WARM_UP)
    return along_cosine(1.0, START * END, (progress - WARM_UP) / (1 - WARM_UP))
