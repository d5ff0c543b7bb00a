"""Bases: the coordinates in which a layer's outputs are factorised.

A basis is a file here and a line in `BASES`, and passes `arsvd.testing.bases`.
"""

from collections.abc import Sequence

from arsvd.registry import Registry
from arsvd.statistics.base import Basis

# In ascending order of what they bring where calibration inputs are at hand.
BASES: Registry[Basis] = Registry(
    "basis",
    "arsvd.statistics",
    {"weight": "weight:WEIGHT", "activation": "activation:ACTIVATION", "loss": "loss:LOSS"},
)

__all__ = ["BASES", "Basis", "best_basis"]


def best_basis(names: Sequence[str]) -> str:
    """Return the basis among some in which points of costly families lie best.

    Args:
        names: at least one name of `BASES`.
    """
    return max(names, key=BASES.names.index)
