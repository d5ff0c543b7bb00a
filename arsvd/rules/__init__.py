"""Rank rules: each turns spectra into one rank per layer.

A rule is a file here and a line in `RULES`, and passes `arsvd.testing.rules`.
"""

from typing import TYPE_CHECKING, Any

from arsvd.registry import Registry
from arsvd.rules.base import RankRule, RegisteredRule

if TYPE_CHECKING:
    from arsvd.rules.budget import Budget
    from arsvd.rules.energy import Energy
    from arsvd.rules.entropy import Entropy
    from arsvd.rules.fixed import Fixed
    from arsvd.rules.given import Ranks

RULES: Registry[type[RegisteredRule]] = Registry(
    "rank rule",
    "arsvd.rules",
    {
        "energy": "energy:Energy",
        "entropy": "entropy:Entropy",
        "fixed": "fixed:Fixed",
        "budget": "budget:Budget",
        "given": "given:Ranks",
    },
)

__all__ = ["RULES", "Budget", "Energy", "Entropy", "Fixed", "RankRule", "Ranks", "RegisteredRule"]


def __getattr__(name: str) -> Any:
    if (found := RULES.find(name)) is not None:
        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
