"""What every rank rule promises."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

from arsvd.statistics import BASES

if TYPE_CHECKING:
    from torch import Tensor

    from arsvd.statistics.spectrum import Spectra

# The thresholds of the contract's examples: each keeps more than the one before, and the last one everything.
EXAMPLES = (0.01, 0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999, 0.999999, 1.0)


class RankRule(Protocol):
    """Turns spectra into one rank per layer.

    A rule is a frozen dataclass without state: the same spectra give the same ranks. It never looks at
    labels. The ranks that it returns lie in [1, full rank]; `None` leaves a layer dense. A rule does not
    apply the break-even guard: `plan` does.
    """

    @property
    def family(self) -> str:
        """The rule's name in tables."""
        ...

    @property
    def threshold(self) -> float | None:
        """The rule's single parameter, for tables; None where it has none."""
        ...

    def ranks(self, spectra: "Spectra") -> tuple[int | None, ...]:
        """Choose one rank per layer.

        Raises:
            ValueError: the rule does not apply to this basis, or nothing satisfies it.
        """
        ...


class RegisteredRule(ABC):
    """A rule with its properties, as the registry holds it.

    Attributes:
        bases: names of the bases that the rule applies to; the first one is used in place of any other.
        searched: True if a sweep file may name the rule.
    """

    bases: ClassVar[tuple[str, ...]] = BASES.names
    searched: ClassVar[bool] = False

    @abstractmethod
    def ranks(self, spectra: "Spectra") -> tuple[int | None, ...]:
        """Choose one rank per layer; see `RankRule`."""

    @classmethod
    @abstractmethod
    def examples(cls, spectra: "Spectra") -> Sequence[RankRule]:
        """Make rules for the contract, each keeping more than the one before, and the last one everything."""

    @classmethod
    def at(cls, thresholds: Sequence[float]) -> Sequence[RankRule]:
        """Make the rules that a sweep tries at some thresholds; one rule alone where it has no threshold.

        Args:
            thresholds: shares in (0, 1].

        Raises:
            TypeError: a sweep file may not name the rule.
        """
        raise TypeError(f"{cls.__name__} is no rule of sweep files")


@dataclass(frozen=True)
class ThresholdRule(RegisteredRule):
    """A rule whose single parameter is a share in (0, 1].

    Args:
        threshold: share in (0, 1].

    Raises:
        ValueError: the threshold is outside (0, 1].
    """

    threshold: float
    family: ClassVar[str]
    searched: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_threshold(self.family, self.threshold)

    @classmethod
    def examples(cls, spectra: "Spectra") -> Sequence[RankRule]:
        """Make rules at thresholds from 0.01 to 1."""
        return [cls(threshold) for threshold in EXAMPLES]

    @classmethod
    def at(cls, thresholds: Sequence[float]) -> Sequence[RankRule]:
        """Make one rule per threshold."""
        return [cls(threshold) for threshold in thresholds]


def smallest_rank(parts: "Tensor", threshold: float) -> int:
    """Return the smallest r with sum(parts[:r]) >= threshold * sum(parts).

    Args:
        parts: non-negative tensor (k,) on the CPU.
        threshold: share of the sum, in (0, 1].

    Returns:
        A rank of at least 1: a layer of zeros keeps one zero component, since a rank of 0 makes no layer.
    """
    import numpy as np

    sums = np.cumsum(parts.numpy())
    # Compared with the last running sum, not with a total added in another order, so that only positive parts
    # count: otherwise rounding at a threshold of 1 could ask for components of zero.
    # 'left' is the non-strict comparison: a sum equal to the threshold suffices.
    return min(int(np.searchsorted(sums, threshold * sums[-1], side="left")) + 1, len(sums))


def check_multiple(spectra: "Spectra", multiple: int) -> None:
    """Refuse a multiple that no layer's rank can be rounded to.

    Raises:
        ValueError: the multiple is not a whole number of at least 1, or exceeds every layer's full rank.
    """
    if not isinstance(multiple, int) or multiple < 1:
        raise ValueError(f"ranks are rounded to a multiple that is a whole number from 1 on, got {multiple}")
    widest = max(spectra, key=lambda spectrum: spectrum.largest)
    if multiple > widest.largest:
        raise ValueError(
            f"ranks cannot be rounded to multiples of {multiple}: it exceeds every layer, "
            f"the largest is {widest.name!r} with a full rank of {widest.largest}"
        )


def check_threshold(rule: str, threshold: float) -> None:
    """Refuse a threshold outside (0, 1]."""
    if not 0.0 < threshold <= 1.0:  # written so that NaN is refused
        raise ValueError(f"the threshold of the {rule} rule must be in (0, 1], got {threshold}")
