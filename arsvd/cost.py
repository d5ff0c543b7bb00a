"""What it costs to ship and run a model."""

from dataclasses import dataclass

NUMBER_BITS = 32  # per stored number


@dataclass(frozen=True)
class Cost:
    """What a model costs, in three units that are kept apart.

    Attributes:
        numbers: count of numbers stored.
        bits: bits stored: 32 per number, and those of their dtype for buffers.
        macs: multiplications for one input row.
    """

    numbers: int
    bits: int
    macs: int

    @classmethod
    def of(cls, numbers: int, macs: int) -> "Cost":
        """Return the cost of numbers of 32 bits each."""
        return cls(numbers, NUMBER_BITS * numbers, macs)
