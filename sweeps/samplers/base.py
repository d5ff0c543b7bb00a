"""The interface of every sampler."""

import hashlib
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


class Sampler(ABC):
    """The source of Optuna's proposals.

    Attributes:
        goes_on: True if it finds its place again when a study continues. A sampler that does not would repeat
            its first draws, and gets another seed.
    """

    goes_on: ClassVar[bool] = False

    @abstractmethod
    def make(self, seed: int, trials: int) -> "BaseSampler":
        """Build the sampler.

        Args:
            seed: seed of its draws.
            trials: number of members that the sweep will train.
        """


def resumed_seed(sampler: Sampler, seed: int, trials: int) -> int:
    """Return the seed for a sampler that continues a study: started anew, it would repeat its first draws.

    Args:
        sampler: sampler to continue with.
        seed: seed of its draws at the beginning.
        trials: number of trials that the study has.
    """
    if trials == 0 or sampler.goes_on:
        return seed
    return int.from_bytes(hashlib.sha256(f"{seed}/{trials}".encode()).digest()[:4], "big")
