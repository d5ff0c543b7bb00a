"""Compress the linear layers of neural networks by adaptive-rank SVD."""

from importlib.metadata import PackageNotFoundError, version

from arsvd.compression import compress
from arsvd.evaluation import OperatingPoint, evaluate
from arsvd.foreign import read_model, write_model
from arsvd.fronts import front, pareto
from arsvd.layers import linear_layers
from arsvd.lowrank import LowRankLinear
from arsvd.mlp import MLP
from arsvd.pareto import hypervolume, non_dominated
from arsvd.planning import Plan, plan
from arsvd.preprocessing import Normalize, whole
from arsvd.rules import Budget, Energy, Entropy, Fixed, RankRule, Ranks
from arsvd.serialization import load, save
from arsvd.spectrum import Spectra, Spectrum, spectra

try:
    __version__ = version("arsvd")
except PackageNotFoundError:  # run from a checkout that is not installed
    __version__ = "0+unknown"

__all__ = [
    "MLP",
    "Budget",
    "Energy",
    "Entropy",
    "Fixed",
    "LowRankLinear",
    "Normalize",
    "OperatingPoint",
    "Plan",
    "RankRule",
    "Ranks",
    "Spectra",
    "Spectrum",
    "compress",
    "evaluate",
    "front",
    "hypervolume",
    "linear_layers",
    "load",
    "non_dominated",
    "pareto",
    "plan",
    "read_model",
    "save",
    "spectra",
    "whole",
    "write_model",
]
