"""A cluster as a discrete-event simulation: many nodes, and one driver that they wait for."""

import heapq
import itertools
import math
import random
from collections.abc import Callable, Mapping

NODES = 100
MEAN_SECONDS = 30.0  # of a member on a node: MNIST on one core
SPREAD = 0.5  # of the logarithm of durations


def simulate(
    service: Callable[[int], float], members: int, pack: int = 1, mean_seconds: float = MEAN_SECONDS
) -> dict[str, float]:
    """Run a cluster of `NODES` nodes with one driver that takes `service(n)` seconds a member.

    Args:
        service: the driver's seconds for a member, by how many are filed.
        members: to train.
        pack: members a trial, trained one after the other.
        mean_seconds: of a member on a node; its logarithm spreads by `SPREAD`.

    Returns:
        Members a second over the whole run and over its last tenth, and the share of time nodes were busy.
    """
    chooser = random.Random(0)
    median = mean_seconds / math.exp(SPREAD**2 / 2)

    def draw() -> float:
        return sum(median * chooser.lognormvariate(0.0, SPREAD) for _ in range(pack))

    free, done, busy, left = 0.0, 0, 0.0, members
    ends: list[float] = []
    moments: list[float] = []
    for _ in range(min(NODES, members // pack)):
        free += pack * service(0)
        seconds = draw()
        busy, left = busy + seconds, left - pack
        heapq.heappush(ends, free + seconds)
    while ends:
        now = heapq.heappop(ends)
        free = max(free, now) + pack * service(done)
        done += pack
        moments.append(free)
        if left >= pack:
            seconds = draw()
            busy, left = busy + seconds, left - pack
            heapq.heappush(ends, free + seconds)
    tail = max(1, len(moments) // 10)
    window = moments[-tail - min(NODES, len(moments) // 2) :][:tail]  # before nodes run out of members
    late = pack * (len(window) - 1) / (window[-1] - window[0]) if len(window) > 1 else float("nan")
    return {
        "members": members,
        "hours": moments[-1] / 3600,
        "rate": done / moments[-1],
        "late_rate": late,
        "busy_share": busy / (NODES * moments[-1]),
    }


def interpolated(table: Mapping[int, float]) -> Callable[[int], float]:
    """Make a function through measured points, straight between them and flat beyond the last."""
    known = sorted(table.items())

    def value(at: int) -> float:
        if at <= known[0][0]:
            return known[0][1]
        for (x0, y0), (x1, y1) in itertools.pairwise(known):
            if at <= x1:
                return y0 + (y1 - y0) * (at - x0) / (x1 - x0)
        return known[-1][1]

    return value
