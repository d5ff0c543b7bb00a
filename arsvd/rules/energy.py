"""The energy rule of the ARSVD paper."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from arsvd.rules.base import ThresholdRule, smallest_rank

if TYPE_CHECKING:
    from arsvd.statistics.spectrum import Spectra


@dataclass(frozen=True)
class Energy(ThresholdRule):
    """The smallest rank that keeps a share of each layer's energy: sum_{i<=r} e_i >= tau sum e_i.

    Args:
        threshold: share tau of the energy to keep, in (0, 1].

    Raises:
        ValueError: the threshold is outside (0, 1].

    Source:
        arXiv 2504.20078 v1, with e_i = sigma_i^2 (weight basis). In the activation basis e_i is the
        variance of the layer's outputs along component i.
    """

    family: ClassVar[str] = "energy"

    def ranks(self, spectra: "Spectra") -> tuple[int | None, ...]:
        """Choose one rank per layer."""
        return tuple(smallest_rank(s.energy, self.threshold) for s in spectra)
