"""Codes side by side, each as wide as the widest of its block."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from arsvd.codings.base import Coding, CodingError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

_HEAD = 5  # bytes of a block: its smallest code in four, and the width in bits


class Packed(Coding):
    """Fixed width: the bits of a code say how far it is above the smallest one."""

    name: ClassVar[str] = "packed"

    def most_codes(self, size: int) -> int:
        """Return 64 codes a byte: codes that are all equal have no bits, and are not counted by the block."""
        return 64 * size

    def _encoded(self, blocks: Sequence[np.ndarray]) -> bytes:
        content = b"".join(_packed(block) for block in blocks if block.size)
        return content + bytes(max(0, -(-sum(block.size for block in blocks) // 64) - len(content)))

    def _decoded(self, body: bytes, lengths: Sequence[int]) -> list[np.ndarray]:
        found, place = [], 0
        for length in lengths:
            block, place = _unpacked(body, place, length)
            found.append(block)
        return found


def _packed(codes: np.ndarray) -> bytes:
    import numpy as np

    low = int(codes.min())
    width = int(codes.max() - low).bit_length()
    bits = (codes[:, None] - low >> np.arange(width - 1, -1, -1)) & 1
    return low.to_bytes(4, "big", signed=True) + bytes([width]) + np.packbits(bits.astype(np.uint8)).tobytes()


def _unpacked(body: bytes, place: int, length: int) -> tuple[np.ndarray, int]:
    import numpy as np

    if length == 0:
        return np.zeros(0, dtype=np.int64), place
    head = body[place : place + _HEAD]
    if len(head) < _HEAD or head[4] > 32:
        raise CodingError("the packed numbers are none: a block has no width")
    low, width = int.from_bytes(head[:4], "big", signed=True), head[4]
    begin = place + _HEAD
    end = begin + -(-length * width // 8)
    if end > len(body):
        raise CodingError("the packed numbers end before their last one")
    bits = np.unpackbits(np.frombuffer(body[begin:end], dtype=np.uint8), count=length * width)
    values = bits.reshape(length, width).astype(np.int64) @ (1 << np.arange(width - 1, -1, -1))
    return low + values, end


PACKED = Packed()
