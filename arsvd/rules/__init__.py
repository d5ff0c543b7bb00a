"""Rank rules: each turns spectra into one rank per layer."""

from arsvd.rules.base import RankRule
from arsvd.rules.budget import Budget
from arsvd.rules.energy import Energy
from arsvd.rules.entropy import Entropy
from arsvd.rules.fixed import Fixed
from arsvd.rules.given import Ranks

__all__ = ["Budget", "Energy", "Entropy", "Fixed", "RankRule", "Ranks"]
