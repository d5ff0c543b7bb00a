"""What every sampler promises."""

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
