"""Families of candidate points: the sources of the models that a trained member is compressed to.

A family is a file here and a line in `CANDIDATES`, and passes `arsvd.testing.candidates`.
"""

from arsvd.candidates.base import Candidates, Context
from arsvd.registry import Registry

# In the order in which they are measured: a family sees the points of those before it.
CANDIDATES: Registry[Candidates] = Registry(
    "family of candidates",
    "arsvd.candidates",
    {
        "threshold": "threshold:THRESHOLD",
        "budget": "budget:BUDGET",
        "sensitivity": "sensitivity:SENSITIVITY",
        "local": "local:LOCAL",
        "refit": "refit:REFIT",
    },
    retired={"per_layer": "it is gone; local moves the layers one by one"},
)

__all__ = ["CANDIDATES", "Candidates", "Context"]
