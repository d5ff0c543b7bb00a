"""What every objective promises."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from arsvd import OperatingPoint


@dataclass(frozen=True)
class Objective:
    """One number of an operating point.

    Attributes:
        of: gives it, finite.
        maximised: whether more of it is better.
    """

    of: "Callable[[OperatingPoint], float]"
    maximised: bool

    @property
    def direction(self) -> Literal["maximize", "minimize"]:
        """The direction as Optuna writes it."""
        return "maximize" if self.maximised else "minimize"
