"""Ranks that were chosen by hand or by a search."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from arsvd.rules.base import RankRule, RegisteredRule

if TYPE_CHECKING:
    from arsvd.statistics.spectrum import Spectra


@dataclass(frozen=True)
class Ranks(RegisteredRule):
    """Exactly these ranks: for a point that a search found, or for a choice of one's own.

    Args:
        chosen: rank of each layer; None leaves a layer dense.
        family: name in tables.
    """

    chosen: tuple[int | None, ...]
    family: str = "given"
    threshold: ClassVar[None] = None

    @classmethod
    def examples(cls, spectra: "Spectra") -> Sequence[RankRule]:
        """Make rules of equal ranks in all layers, up to each layer's full rank."""
        full = [spectrum.largest for spectrum in spectra]
        return [cls(tuple(min(rank, most) for most in full)) for rank in range(1, max(full) + 1)]

    def ranks(self, spectra: "Spectra") -> tuple[int | None, ...]:
        """Return the ranks.

        Raises:
            ValueError: there is not one rank per layer, or a rank is outside [1, full rank].
        """
        if len(self.chosen) != len(spectra):
            raise ValueError(f"{len(self.chosen)} ranks were given for {len(spectra)} layers")
        for spectrum, rank in zip(spectra, self.chosen, strict=True):
            if rank is not None and not 1 <= rank <= spectrum.largest:
                raise ValueError(
                    f"layer {spectrum.name!r} takes ranks from 1 to {spectrum.largest}, got {rank}"
                )
        return self.chosen
