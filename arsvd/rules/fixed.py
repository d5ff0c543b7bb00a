"""The baseline: the same fraction of the full rank in every layer."""

from dataclasses import dataclass
from typing import ClassVar

from arsvd.rules.base import check_threshold
from arsvd.spectrum import Spectra


@dataclass(frozen=True)
class Fixed:
    """r = f min(out, in) in every layer, rounded to the nearest whole number of at least 1.

    Args:
        fraction: f in (0, 1].

    Raises:
        ValueError: the fraction is outside (0, 1].
    """

    fraction: float
    family: ClassVar[str] = "fixed"

    def __post_init__(self) -> None:
        check_threshold(self.family, self.fraction)

    @property
    def threshold(self) -> float:
        """The fraction."""
        return self.fraction

    def ranks(self, spectra: Spectra) -> tuple[int | None, ...]:
        """Choose one rank per layer."""
        return tuple(max(1, round(self.fraction * s.full_rank)) for s in spectra)
