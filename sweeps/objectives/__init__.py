"""The objectives that a search can have.

An objective is a line in `OBJECTIVES` and a value of its module here.
"""

from arsvd.registry import Registry
from sweeps.objectives.base import Objective

OBJECTIVES: Registry[Objective] = Registry(
    "objective",
    "sweeps.objectives",
    {
        "accuracy": "quality:ACCURACY",
        "macro_f1": "quality:MACRO_F1",
        "loss": "quality:LOSS",
        "params": "cost:PARAMS",
        "macs": "cost:MACS",
        "bits": "cost:BITS",
    },
)

__all__ = ["OBJECTIVES", "Objective"]
