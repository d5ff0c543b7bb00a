"""The baseline: the same fraction of the full rank in every layer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from arsvd.rules.base import EXAMPLES, RankRule, RegisteredRule, check_threshold

if TYPE_CHECKING:
    from arsvd.statistics.spectrum import Spectra


@dataclass(frozen=True)
class Fixed(RegisteredRule):
    """r = f min(out, in) in every layer, rounded to the nearest whole number of at least 1.

    A classifier's last layer has as many outputs as there are classes: at a fraction of 0.1, ten classes are
    left with one direction, and next to nothing is saved, since the layer is small. `output=False` keeps it
    dense.

    Args:
        fraction: fraction f of the full rank, in (0, 1].
        output: True if the last layer is factorised too.

    Raises:
        ValueError: the fraction is outside (0, 1].
    """

    fraction: float
    output: bool = True
    family: ClassVar[str] = "fixed"

    def __post_init__(self) -> None:
        check_threshold(self.family, self.fraction)

    @classmethod
    def examples(cls, spectra: "Spectra") -> Sequence[RankRule]:
        """Make rules with fractions from 0.01 to 1."""
        return [cls(fraction) for fraction in EXAMPLES]

    @property
    def threshold(self) -> float:
        """The fraction."""
        return self.fraction

    def ranks(self, spectra: "Spectra") -> tuple[int | None, ...]:
        """Choose one rank per layer."""
        ranks = tuple(max(1, round(self.fraction * s.largest)) for s in spectra)
        return ranks if self.output else (*ranks[:-1], None)
