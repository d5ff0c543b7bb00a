"""Learning-rate schedules: the share of the peak rate at each step.

A schedule is a function in a file here and a line in `SCHEDULES`.
"""

from collections.abc import Callable

from arsvd.registry import Registry

Schedule = Callable[[float], float]  # maps the share of steps done, in [0, 1], to the share of the peak rate

SCHEDULES: Registry[Schedule] = Registry(
    "schedule",
    "arsvd.training.schedules",
    {"onecycle": "one_cycle:one_cycle", "cosine": "falling:cosine"},
)
