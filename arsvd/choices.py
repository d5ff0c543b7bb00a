"""How the sites of a model are stored: a choice of format and size for each."""

from collections.abc import Sequence
from typing import NamedTuple

from arsvd.formats import DENSE, LOW_RANK


class Choice(NamedTuple):
    """How one site is stored.

    Attributes:
        format: name of the format.
        size: size in that format, such as a rank; 0 where the format has no sizes.
    """

    format: str
    size: int

    @property
    def text(self) -> str:
        """The choice as tables show it: the size, after the name of its format unless it is a low rank."""
        if self.format == DENSE:
            return DENSE
        return str(self.size) if self.format == LOW_RANK else f"{self.format}:{self.size}"


DENSE_CHOICE = Choice(DENSE, 0)


def choices_of(ranks: Sequence[int | None], formats: Sequence[str] | None) -> tuple[Choice, ...]:
    """Return the choices in a record, which has formats only where the sizes are not all low ranks."""
    pairs = zip(formats or [LOW_RANK] * len(ranks), ranks, strict=True)
    return tuple(DENSE_CHOICE if size is None else Choice(format, size) for format, size in pairs)
