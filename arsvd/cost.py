"""What a model costs whoever ships and runs it."""

from dataclasses import dataclass

NUMBER_BITS = 32  # of a stored number


@dataclass(frozen=True)
class Cost:
    """Three numbers that are never one.

    Attributes:
        numbers: numbers stored.
        bits: bits stored; 32 a number, and of buffers those of their dtype.
        macs: multiplications of one input row.
    """

    numbers: int
    bits: int
    macs: int

    @classmethod
    def of(cls, numbers: int, macs: int) -> "Cost":
        """Return what numbers of 32 bits cost."""
        return cls(numbers, NUMBER_BITS * numbers, macs)
