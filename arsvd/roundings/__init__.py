"""Roundings: weights to whole multiples of a step.

A rounding is a file here and a line in `ROUNDINGS`, and passes `arsvd.testing.roundings`.
"""

from arsvd.registry import Registry
from arsvd.roundings.base import Levels, Rounding

ROUNDINGS: Registry[Rounding] = Registry(
    "rounding",
    "arsvd.roundings",
    {"nearest": "nearest:NEAREST", "gptq": "gptq:GPTQ"},
)

__all__ = ["ROUNDINGS", "Levels", "Rounding"]
