"""The samplers that a sweep file may name.

A sampler is a file here and a line in `SAMPLERS`, and passes `sweeps.testing.samplers`.
"""

from arsvd.registry import Registry
from sweeps.samplers.base import Sampler

SAMPLERS: Registry[Sampler] = Registry(
    "sampler",
    "sweeps.samplers",
    {"tpe": "tpe:TPE", "nsga2": "nsga2:NSGA2", "random": "at_random:RANDOM", "qmc": "qmc:QMC"},
)

__all__ = ["SAMPLERS", "Sampler"]
