"""Codes at the length of their own statistics, learnt on the way: no table is stored.

An arithmetic coder whose model counts the codes seen so far. Each block has its own counts, and one stream
holds all blocks, so that a block costs no bytes to begin or to end.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from typing import TYPE_CHECKING, ClassVar

from arsvd.codings.base import Coding, CodingError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

# The coder's interval has 56 bits and is widened below 48: totals up to 2^40 cost nothing that could be seen.
_WIDTH, _NARROW = 56, 1 << 48
_WHOLE = 1 << _WIDTH
# How much a seen code counts beside one that was not: the smaller 1/step, the fewer codes are expected of all
# those that may come. 2 is the estimator of Krichevsky and Trofimov (1981).
STEPS = (1, 2, 4, 8, 16, 32, 64, 128)
_GROUP = 24  # counts that are summed up; about the root of the next
_TABLE = 512  # codes with a count of their own; what lies outside is escaped
_SPARSEST = 32  # codes a byte: sparser content is filled up, which bounds the time that decoding takes
_FREE = 4096  # codes that any content may have


class Adaptive(Coding):
    """Order-0 adaptive arithmetic coding.

    Source:
        Witten, Neal and Cleary 1987, with carries as in Schindler's range coder (1998); counts start at
        1 / step, the step of each block being the one that codes it best.
    """

    name: ClassVar[str] = "adaptive"

    def most_codes(self, size: int) -> int:
        """Return `_SPARSEST` codes a byte, and some that are free."""
        return _FREE + _SPARSEST * size

    def _encoded(self, blocks: Sequence[np.ndarray]) -> bytes:
        writer = _Writer()
        for block in blocks:
            if block.size:
                _Block.chosen(block).write(writer, block.tolist())
        content = writer.finished()
        missing = -(-(sum(block.size for block in blocks) - _FREE) // _SPARSEST) - len(content)
        return content + bytes(max(0, missing))

    def _decoded(self, body: bytes, lengths: Sequence[int]) -> list[np.ndarray]:
        import numpy as np

        reader = _Reader(body)
        found = []
        for length in lengths:
            codes = _Block.read(reader).codes(reader, length) if length else []
            found.append(np.array(codes, dtype=np.int64))
        if reader.place > len(body) + _WIDTH // 8:
            raise CodingError("the coded numbers end before their last one")
        return found


class _Block:
    """The model of one block: counts of the codes from `low` on, the last one that of all others."""

    def __init__(self, low: int, size: int, step: int) -> None:
        self.low, self.size, self.step = low, size, step

    @classmethod
    def chosen(cls, codes: np.ndarray) -> _Block:
        """Choose what codes a block best."""
        import numpy as np

        low, high = int(codes.min()), int(codes.max())
        if high - low >= _TABLE:  # around the middle: what lies outside is rare
            low = max(low, min(int(np.median(codes)) - _TABLE // 2, high - _TABLE + 1))
            high = low + _TABLE - 1
        inside = codes[(codes >= low) & (codes <= high)] - low
        counts = np.append(np.bincount(inside, minlength=high - low + 1), codes.size - inside.size)
        sizes = [(_bits(counts.tolist(), step), step) for step in STEPS]
        return cls(low, high - low + 1, min(sizes)[1])

    @classmethod
    def read(cls, reader: _Reader) -> _Block:
        """Read what `write` wrote first."""
        low, size, step = _signed(reader.number()), reader.number(), reader.number()
        if not 0 < size <= _TABLE or step >= len(STEPS):
            raise CodingError("the coded numbers are none: their statistics are out of bounds")
        return cls(low, size, STEPS[step])

    def write(self, writer: _Writer, codes: Sequence[int]) -> None:
        """Write the model, then the codes."""
        for number in (_unsigned(self.low), self.size, STEPS.index(self.step)):
            writer.number(number)
        counts, low, escape = _Counts(self.size + 1, self.step), self.low, self.size
        for code in codes:
            place = code - low
            if not 0 <= place < escape:
                place = escape
            writer.part(*counts.part(place), counts.total)
            counts.add(place)
            if place == escape:
                writer.number(_unsigned(code))

    def codes(self, reader: _Reader, length: int) -> list[int]:
        """Read codes."""
        counts, found = _Counts(self.size + 1, self.step), []
        for _ in range(length):
            place, before, own = counts.find(reader.share(counts.total))
            reader.take(before, own, counts.total)
            counts.add(place)
            found.append(self.low + place if place < self.size else _signed(reader.number()))
        return found


class _Counts:
    """Counts with sums over groups of them, so that finding a code takes as long whatever the alphabet."""

    def __init__(self, size: int, step: int) -> None:
        self._step, self.total = step, size
        self._counts = [1] * size
        self._groups = [min(_GROUP, size - begin) for begin in range(0, size, _GROUP)]

    def part(self, place: int) -> tuple[int, int]:
        """Return the sum of the counts before a place, and its own."""
        group = place // _GROUP
        before = sum(self._groups[:group]) + sum(self._counts[group * _GROUP : place])
        return before, self._counts[place]

    def find(self, share: int) -> tuple[int, int, int]:
        """Return the place in which a number below the total lies, the sum before it, and its own count."""
        ends = list(itertools.accumulate(self._groups))
        group = bisect_right(ends, share)
        before, begin = ends[group] - self._groups[group], group * _GROUP
        ends = list(itertools.accumulate(self._counts[begin : begin + _GROUP], initial=before))
        place = bisect_right(ends, share) - 1
        return begin + place, ends[place], ends[place + 1] - ends[place]

    def add(self, place: int) -> None:
        """Count a code."""
        self._counts[place] += self._step
        self._groups[place // _GROUP] += self._step
        self.total += self._step


def _bits(counts: Sequence[int], step: int) -> float:
    """Return the length of codes with these counts, in bits, in whatever order they come."""
    start, several = 1 / step, [count for count in counts if count]
    nats = math.lgamma(sum(counts) + len(counts) * start) - math.lgamma(len(counts) * start)
    nats -= sum(math.lgamma(count + start) for count in several) - len(several) * math.lgamma(start)
    return nats / math.log(2)


def _unsigned(number: int) -> int:
    return 2 * number if number >= 0 else -2 * number - 1


def _signed(number: int) -> int:
    return number // 2 if number % 2 == 0 else -(number + 1) // 2


class _Writer:
    """Narrows an interval of numbers for each part that is written; any number in it then stands for all."""

    def __init__(self) -> None:
        self._low, self._range = 0, _WHOLE
        self._out = bytearray()

    def part(self, before: int, own: int, total: int) -> None:
        """Write a part with the share own / total, the parts before it having before / total."""
        unit = self._range // total
        self._low += unit * before
        self._range = unit * own if before + own < total else self._range - unit * before
        while self._range < _NARROW:
            self._shift()

    def number(self, number: int) -> None:
        """Write a number from 0 on, each bit as likely as not; Elias' gamma code (1975)."""
        width = (number + 1).bit_length()
        for bit in (*[0] * (width - 1), *map(int, f"{number + 1:b}")):
            self.part(bit, 1, 2)

    def finished(self) -> bytes:
        """Return what was written, with the shortest number in the interval; zeros follow it unwritten."""
        for size in range(_WIDTH // 8 + 1):
            step = 1 << (_WIDTH - 8 * size)
            last = -(-self._low // step) * step
            if last < self._low + self._range:
                self._low = last
                for _ in range(size):
                    self._shift()
                self._carry()
                break
        return bytes(self._out).rstrip(b"\0")

    def _shift(self) -> None:
        self._carry()
        self._out.append(self._low >> (_WIDTH - 8))
        self._low = (self._low << 8) & (_WHOLE - 1)
        self._range <<= 8

    def _carry(self) -> None:
        if self._low >= _WHOLE:
            self._low -= _WHOLE
            place = len(self._out) - 1
            while self._out[place] == 255:
                self._out[place] = 0
                place -= 1
            self._out[place] += 1


class _Reader:
    """Follows the intervals that a `_Writer` chose; after the last byte come zeros.

    Attributes:
        place: number of bytes taken so far.
    """

    def __init__(self, content: bytes) -> None:
        self._content, self.place = content, _WIDTH // 8
        # the number within the interval, whose low end is at 0
        self._number = int.from_bytes(content[: self.place].ljust(self.place, b"\0"), "big")
        self._range = _WHOLE

    def share(self, total: int) -> int:
        """Return the number below the total in whose part the content goes on."""
        return min(self._number // (self._range // total), total - 1)

    def take(self, before: int, own: int, total: int) -> None:
        """Follow the content into a part; see `_Writer.part`."""
        unit = self._range // total
        self._number -= unit * before
        self._range = unit * own if before + own < total else self._range - unit * before
        while self._range < _NARROW:
            following = self._content[self.place] if self.place < len(self._content) else 0
            self._number = (self._number << 8) | following
            self._range <<= 8
            self.place += 1

    def bit(self) -> int:
        """Read one of two parts of equal shares."""
        found = self.share(2)
        self.take(found, 1, 2)
        return found

    def number(self) -> int:
        """Read what `_Writer.number` wrote.

        Raises:
            CodingError: it has more than 40 bits.
        """
        width = 1
        while self.bit() == 0:
            width += 1
            if width > 40:
                raise CodingError("the coded numbers are none: one has more than 32 bits")
        number = 1
        for _ in range(width - 1):
            number = 2 * number + self.bit()
        return number - 1


ADAPTIVE = Adaptive()
