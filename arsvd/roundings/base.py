"""What every rounding promises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Levels:
    """The values that a code can stand for: code c means (c + offset) * step.

    Args:
        low: smallest code; None without a bound.
        high: largest code; None without a bound.
        offset: part of a step that is added to each code.

    Raises:
        ValueError: only one bound is given, or they are out of order.
    """

    low: int | None = None
    high: int | None = None
    offset: float = 0.0

    def __post_init__(self) -> None:
        if (self.low is None) != (self.high is None):
            raise ValueError(f"levels have two bounds or none, got {self.low} and {self.high}")
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"levels go from a lower code to a higher one, got {self.low} and {self.high}")

    @classmethod
    def of_width(cls, bits: int) -> Levels:
        """Return all levels of a width in bits; those of one and two bits have no zero, but are symmetric.

        Raises:
            ValueError: the width is below 1 or above 32.
        """
        if not 1 <= bits <= 32:
            raise ValueError(f"codes have 1 to 32 bits, got {bits}")
        half = 2 ** (bits - 1)
        return cls(-half, half - 1, 0.5 if bits <= 2 else 0.0)

    def nearest(self, quotients: Tensor) -> Tensor:
        """Return the codes nearest to weights, which are given in steps; float, of any shape."""
        codes = (quotients - self.offset).round()
        return codes if self.low is None else codes.clamp(self.low, self.high)

    def values(self, codes: Tensor) -> Tensor:
        """Return what codes stand for, in steps."""
        return codes + self.offset


UNBOUNDED = Levels()


class Rounding(ABC):
    """Chooses a code for each weight of a matrix.

    Attributes:
        name: name of the rounding.
        calibrated: True if it looks at inputs of the matrix.
    """

    name: ClassVar[str]
    calibrated: ClassVar[bool]

    @abstractmethod
    def codes(
        self, matrix: Tensor, steps: Tensor, second: Tensor | None = None, levels: Levels = UNBOUNDED
    ) -> Tensor:
        """Round a matrix.

        Args:
            matrix: finite weights (out, in) in float64.
            steps: positive steps that broadcast to (out, in): one each, one a row, or one a column.
            second: second moments E[x x^T] of the matrix's inputs, (in, in); None where nothing is known of
                them.
            levels: values that codes can stand for.

        Returns:
            Codes (out, in), whole numbers in float64.
        """
