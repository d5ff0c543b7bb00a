"""Ranks that somebody chose."""

from dataclasses import dataclass
from typing import ClassVar

from arsvd.spectrum import Spectra


@dataclass(frozen=True)
class Ranks:
    """Exactly these ranks: for a point that a search found, or one's own.

    Args:
        chosen: one rank per layer; None leaves a layer dense.
        family: the name in tables.
    """

    chosen: tuple[int | None, ...]
    family: str = "given"
    threshold: ClassVar[None] = None

    def ranks(self, spectra: Spectra) -> tuple[int | None, ...]:
        """Return the ranks.

        Raises:
            ValueError: there is not one rank a layer, or one is outside [1, full rank].
        """
        if len(self.chosen) != len(spectra):
            raise ValueError(f"{len(self.chosen)} ranks were given for {len(spectra)} layers")
        for spectrum, rank in zip(spectra, self.chosen, strict=True):
            if rank is not None and not 1 <= rank <= spectrum.full_rank:
                raise ValueError(
                    f"layer {spectrum.name!r} takes ranks from 1 to {spectrum.full_rank}, got {rank}"
                )
        return self.chosen
