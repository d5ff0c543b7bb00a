"""The samplers that a sweep file may name.

A sampler is a file here and a line in `SAMPLERS`, and passes the contract in `tests/sweeps/search`.
"""

import hashlib
from typing import TYPE_CHECKING

from arsvd.registry import Registry
from sweeps.search.samplers.base import Sampler

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

SAMPLERS: Registry[Sampler] = Registry(
    "sampler",
    "sweeps.search.samplers",
    {"tpe": "tpe:TPE", "nsga2": "nsga2:NSGA2", "random": "at_random:RANDOM", "qmc": "qmc:QMC"},
)

__all__ = ["SAMPLERS", "Sampler", "make_sampler", "resumed_seed"]


def make_sampler(name: str, seed: int, trials: int) -> "BaseSampler":
    """Build a sampler.

    Args:
        name: its name in `SAMPLERS`.
        seed: what it draws from.
        trials: how many members the sweep will train.

    Raises:
        UnknownMethodError: there is none of this name.
    """
    return SAMPLERS[name].make(seed, trials)


def resumed_seed(name: str, seed: int, trials: int) -> int:
    """Return the seed for a sampler that goes on in a study: begun anew, it would repeat its first draws.

    Args:
        name: its name in `SAMPLERS`.
        seed: what it drew from in the beginning.
        trials: trials that the study has.
    """
    if trials == 0 or SAMPLERS[name].goes_on:
        return seed
    return int.from_bytes(hashlib.sha256(f"{seed}/{trials}".encode()).digest()[:4], "big")
