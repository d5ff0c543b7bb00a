"""What every coding promises."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

LARGEST = 2**31 - 1  # of a code's magnitude
_CHECKSUM = 4  # bytes, at the end


class CodingError(ValueError):
    """Bytes are damaged, or are not those of the codes that are asked for."""


class Coding(ABC):
    """Turns blocks of codes into bytes and back.

    A block is what has statistics of its own, such as the codes of a layer. Their lengths are not among the
    bytes: whoever keeps them knows the shapes. The last four bytes are a checksum of the others, so that a
    flipped bit is found, and so is an end that is missing.

    Attributes:
        name: name of the coding.
    """

    name: ClassVar[str]

    def encode(self, blocks: Sequence[np.ndarray]) -> bytes:
        """Code blocks.

        Args:
            blocks: codes (n,), whole numbers of at most 32 bits.

        Raises:
            CodingError: a code has more than 32 bits, or is no whole number.
        """
        import numpy as np

        for block in blocks:
            if not np.issubdtype(block.dtype, np.integer):
                raise CodingError(f"codes are whole numbers, got {block.dtype}")
            if block.size and max(-int(block.min()), int(block.max())) > LARGEST:
                raise CodingError(f"codes have at most 32 bits, got {int(block.min())} … {int(block.max())}")
        content = self._encoded([block.ravel().astype(np.int64) for block in blocks])
        return content + zlib.crc32(content).to_bytes(_CHECKSUM, "big")

    def decode(self, content: bytes, lengths: Sequence[int]) -> list[np.ndarray]:
        """Return the blocks that `encode` was given.

        The time that it takes is bounded by the size of the content, whatever lengths are claimed.

        Args:
            content: bytes that `encode` returned.
            lengths: number of codes in each block.

        Raises:
            CodingError: the bytes are damaged, or are not those of blocks of these lengths.
        """
        body, checksum = content[:-_CHECKSUM], content[-_CHECKSUM:]
        if len(checksum) < _CHECKSUM or zlib.crc32(body).to_bytes(_CHECKSUM, "big") != checksum:
            raise CodingError("the coded numbers are damaged: their checksum differs")
        if any(length < 0 for length in lengths) or sum(lengths) > self.most_codes(len(body)):
            raise CodingError(f"{len(content)} bytes do not hold {sum(lengths):,} coded numbers")
        return self._decoded(body, lengths)

    @abstractmethod
    def most_codes(self, size: int) -> int:
        """Return how many codes so many bytes can hold at most."""

    @abstractmethod
    def _encoded(self, blocks: Sequence[np.ndarray]) -> bytes:
        """Code blocks of int64."""

    @abstractmethod
    def _decoded(self, body: bytes, lengths: Sequence[int]) -> list[np.ndarray]:
        """Decode blocks to int64.

        Raises:
            CodingError: the bytes are not those of blocks of these lengths.
        """
