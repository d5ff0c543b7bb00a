"""What every sampler promises."""

import hashlib
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


class Sampler(ABC):
    """Where Optuna's proposals come from.

    Attributes:
        goes_on: whether it finds its place again in a study that goes on. One that does not would repeat its
            first draws, and gets another seed.
    """

    goes_on: ClassVar[bool] = False

    @abstractmethod
    def make(self, seed: int, trials: int) -> "BaseSampler":
        """Build it.

        Args:
            seed: what it draws from.
            trials: how many members the sweep will train.
        """


def resumed_seed(sampler: Sampler, seed: int, trials: int) -> int:
    """Return the seed for a sampler that goes on in a study: begun anew, it would repeat its first draws.

    Args:
        sampler: the sampler.
        seed: what it drew from in the beginning.
        trials: trials that the study has.
    """
    if trials == 0 or sampler.goes_on:
        return seed
    return int.from_bytes(hashlib.sha256(f"{seed}/{trials}".encode()).digest()[:4], "big")
