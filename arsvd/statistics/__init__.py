"""Bases: the coordinates in which a layer's outputs are factorised.

A basis is a file here and a line in `BASES`, and passes `arsvd.testing.bases`.
"""

from collections.abc import Sequence

from arsvd.registry import Registry
from arsvd.statistics.base import Basis

# In ascending order of how well they compress where calibration inputs are at hand.
BASES: Registry[Basis] = Registry(
    "basis",
    "arsvd.statistics",
    {"weight": "weight:WEIGHT", "activation": "activation:ACTIVATION", "loss": "loss:LOSS"},
)

__all__ = ["BASES", "Basis", "best_basis"]


def best_basis(names: Sequence[str]) -> str:
    """Return the best of several bases, in which the costly families of candidates search.

    Args:
        names: names of bases, at least one.
    """
    return max(names, key=BASES.names.index)
