"""Compress the linear layers and convolutions of neural networks by adaptive-rank SVD.

A name is imported when it is first used: the command starts in this package, and its help needs no torch.
"""

from typing import TYPE_CHECKING, Any

from arsvd.lazy import lazy_names

if TYPE_CHECKING:
    from arsvd.compression import compress
    from arsvd.dominance import hypervolume, non_dominated
    from arsvd.evaluation.evaluator import OperatingPoint, evaluate
    from arsvd.files.foreign import read_model, write_model
    from arsvd.files.serialization import load, save
    from arsvd.fronts import front, pareto
    from arsvd.mlp import MLP
    from arsvd.numbers.quantise import quantise
    from arsvd.planning import Plan, plan
    from arsvd.preprocessing import Normalize, whole
    from arsvd.rules import Budget, Energy, Entropy, Fixed, RankRule, Ranks
    from arsvd.sites.finding import find_sites
    from arsvd.sites.linear import LowRankLinear
    from arsvd.statistics.factorise import spectra
    from arsvd.statistics.spectrum import Spectra, Spectrum

    __version__: str

_PLACES = {
    "compression": ("compress",),
    "dominance": ("hypervolume", "non_dominated"),
    "evaluation.evaluator": ("OperatingPoint", "evaluate"),
    "files.foreign": ("read_model", "write_model"),
    "fronts": ("front", "pareto"),
    "mlp": ("MLP",),
    "numbers.quantise": ("quantise",),
    "planning": ("Plan", "plan"),
    "preprocessing": ("Normalize", "whole"),
    "rules": ("Budget", "Energy", "Entropy", "Fixed", "RankRule", "Ranks"),
    "files.serialization": ("load", "save"),
    "sites.finding": ("find_sites",),
    "sites.linear": ("LowRankLinear",),
    "statistics.factorise": ("spectra",),
    "statistics.spectrum": ("Spectra", "Spectrum"),
}

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
    "find_sites",
    "front",
    "hypervolume",
    "load",
    "non_dominated",
    "pareto",
    "plan",
    "quantise",
    "read_model",
    "save",
    "spectra",
    "whole",
    "write_model",
]


_find = lazy_names(__name__, _PLACES)


def __getattr__(name: str) -> Any:
    return _version() if name == "__version__" else _find(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("arsvd")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "0+unknown"
