"""The entropy rule of the ARSVD paper's second version."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from arsvd.rules.base import ThresholdRule, smallest_rank

if TYPE_CHECKING:
    from arsvd.statistics.spectrum import Spectra


@dataclass(frozen=True)
class Entropy(ThresholdRule):
    """The smallest rank that keeps a share of each layer's spectral entropy.

    With p_i = sigma_i / sum sigma: the smallest r with -sum_{i<=r} p_i log p_i >= tau times the whole sum.

    Args:
        threshold: share tau of the entropy to keep, in (0, 1].

    Raises:
        ValueError: the threshold is outside (0, 1].

    Source:
        arXiv 2504.20078 v2. Defined on singular values, hence for the weight basis only.
    """

    family: ClassVar[str] = "entropy"
    bases: ClassVar[tuple[str, ...]] = ("weight",)

    def ranks(self, spectra: "Spectra") -> tuple[int | None, ...]:
        """Choose one rank per layer.

        Raises:
            ValueError: the spectra are not in the weight basis.
        """
        import torch

        if spectra.basis not in self.bases:
            raise ValueError(
                f"the entropy rule needs spectra in the weight basis, got the {spectra.basis} basis"
            )
        chosen = []
        for spectrum in spectra:
            sigma = spectrum.energy.sqrt()
            share = sigma / sigma.sum().clamp_min(torch.finfo(torch.float64).tiny)
            chosen.append(smallest_rank(-torch.xlogy(share, share), self.threshold))
        return tuple(chosen)
