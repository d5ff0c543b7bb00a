"""Changes of bytes of any kind."""

from collections.abc import Sequence
from random import Random

_NUMBERS = (0, 1, 2, 4, 8, 16, 127, 128, 255, 256, 32767, 32768, 65535, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
_LONG = (*_NUMBERS, 2**32, 2**40, 2**53, 2**63 - 1, 2**63, 2**64 - 1)
_PIECES = (
    b"",
    b"\0",
    b"\xff",
    b"\n",
    b"\r\n",
    b"\t",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\x1f\x8b\x08\0",
    b"PK\x03\x04",
    b"\x80\x04c",
    b"\x93NUMPY\x01\0",
    b"<html>",
    b"../../outside",
    b"\xed\xa0\x80",
)


def mutate_bytes(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Flip, cut, repeat, insert or splice; overwrite with numbers that sit at a limit."""
    content = bytearray(data)
    return bytes(random.choice(_CHANGES)(random, content, others))


def _flip(random: Random, content: bytearray, others: Sequence[bytes]) -> bytearray:
    for _ in range(random.choice((1, 1, 2, 8))):
        if content:
            content[_near_start(random, len(content))] ^= 1 << random.randrange(8)
    return content


def _overwrite(random: Random, content: bytearray, others: Sequence[bytes]) -> bytearray:
    for _ in range(random.choice((1, 1, 4))):
        if content:
            content[_near_start(random, len(content))] = random.choice((0, 1, 9, 10, 32, 127, 128, 254, 255))
    return content


def _number(random: Random, content: bytearray, others: Sequence[bytes]) -> bytearray:
    size = random.choice((1, 2, 4, 8))
    order = random.choice(("big", "little"))
    fitting = [number for number in (_LONG if size == 8 else _NUMBERS) if number < 256**size]
    start = _near_start(random, max(1, len(content)))
    content[start : start + size] = random.choice(fitting).to_bytes(size, order)  # type: ignore[arg-type]
    return content


def _cut(random: Random, content: bytearray, others: Sequence[bytes]) -> bytearray:
    start, end = _span(random, len(content))
    del content[start : random.choice((end, len(content)))]
    return content


def _repeat(random: Random, content: bytearray, others: Sequence[bytes]) -> bytearray:
    start, end = _span(random, len(content))
    content[start:start] = content[start:end] * random.choice((1, 1, 2, 16))
    return content


def _insert(random: Random, content: bytearray, others: Sequence[bytes]) -> bytearray:
    start, _ = _span(random, len(content))
    content[start:start] = random.choice(_PIECES)
    return content


def _splice(random: Random, content: bytearray, others: Sequence[bytes]) -> bytearray:
    other = random.choice(others) if others else b""
    start, end = _span(random, len(other))
    place, until = _span(random, len(content))
    content[place:until] = other[start:end]
    return content


def _replace_all(random: Random, content: bytearray, others: Sequence[bytes]) -> bytearray:
    return bytearray(random.choice((b"", b"\0" * random.randrange(1, 5000), random.randbytes(64))))


_CHANGES = (_flip, _flip, _flip, _overwrite, _number, _number, _cut, _repeat, _insert, _splice, _replace_all)
_CHANGES = (*_CHANGES[:-1] * 3, _CHANGES[-1])


def _near_start(random: Random, length: int) -> int:
    """Choose a place; headers lie at the beginning, and decide more than what follows."""
    return random.randrange(min(length, random.choice((8, 64, 512, length, length))))


def _span(random: Random, length: int) -> tuple[int, int]:
    start = random.randrange(length + 1)
    return start, min(length, start + random.choice((1, 4, 64, 1024, length)))
