"""What every objective promises."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from arsvd import OperatingPoint


@dataclass(frozen=True)
class Objective:
    """A number that an operating point has.

    Attributes:
        of: function that returns the number of a point, which is finite.
        maximised: True if larger is better.
    """

    of: "Callable[[OperatingPoint], float]"
    maximised: bool

    @property
    def direction(self) -> Literal["maximize", "minimize"]:
        """Direction as Optuna writes it."""
        return "maximize" if self.maximised else "minimize"
