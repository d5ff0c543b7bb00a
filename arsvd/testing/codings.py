"""The contract of a coding."""

from collections.abc import Callable, Iterator

import numpy as np

from arsvd.codings import CODINGS, CodingError

Blocks = list[np.ndarray]
LENGTHS = (0, 1, 2, 3, 17, 256, 1_000, 20_000)
ALPHABETS = (1, 2, 3, 16, 255, 256, 300)


def it_is_registered_by_its_name(name: str) -> None:
    """The registry has the coding under its own name."""
    assert CODINGS[name].name == name


def what_is_encoded_is_decoded(name: str) -> None:
    """Codes of all lengths, alphabets and degrees of skew come back, block by block."""
    tried = 0
    for blocks in _cases():
        content = CODINGS[name].encode(blocks)
        found = CODINGS[name].decode(content, [block.size for block in blocks])
        assert len(found) == len(blocks)
        for one, other in zip(found, blocks, strict=True):
            assert one.dtype == np.int64
            assert np.array_equal(one, other)
        tried += 1
    assert tried > 100


def a_flipped_bit_is_refused(name: str) -> None:
    """Whichever bit of the bytes is another one, they are refused."""
    blocks = [_drawn(40, 16, 1.0), _drawn(25, 3, 0.5)]
    content = CODINGS[name].encode(blocks)
    for place in range(8 * len(content)):
        changed = bytearray(content)
        changed[place // 8] ^= 1 << place % 8
        _refused(name, bytes(changed), [40, 25])


def a_missing_end_is_refused(name: str) -> None:
    """However much of the bytes is missing, or follows them, they are refused."""
    content = CODINGS[name].encode([_drawn(60, 16, 1.0)])
    for size in range(len(content)):
        _refused(name, content[:size], [60])
    _refused(name, content + b"\0", [60])


def other_lengths_are_decoded_in_bounded_time(name: str) -> None:
    """Other lengths than those of the blocks give an error or other codes, but no more than allowed."""
    content = CODINGS[name].encode([_drawn(60, 16, 1.0)])
    for lengths in ([10**12], [10**9] * 4, [-1], [60, 10**15]):
        _refused(name, content, lengths)
    most = CODINGS[name].most_codes(len(content))
    assert most < 10_000
    for length in (0, 59, 61, 1_000):
        try:
            (found,) = CODINGS[name].decode(content, [length])
        except CodingError:
            continue
        assert found.shape == (length,)


def bytes_with_a_right_checksum_are_decoded_or_refused(name: str) -> None:
    """Bytes that nobody encoded give codes or a `CodingError`, whatever they are."""
    import zlib

    generator = np.random.default_rng(7)
    for number in range(300):
        body = generator.integers(0, 256, number % 40, dtype=np.uint8).tobytes()
        content = body + zlib.crc32(body).to_bytes(4, "big")
        try:
            found = CODINGS[name].decode(content, [number, 3])
        except CodingError:
            continue
        assert [block.size for block in found] == [number, 3]


def too_large_codes_are_refused(name: str) -> None:
    """Codes of more than 32 bits, and numbers that are no whole ones, are refused."""
    for block in (np.array([2**31]), np.array([-(2**31)]), np.array([0, 2**40]), np.array([0.5])):
        try:
            CODINGS[name].encode([block])
        except CodingError as error:
            assert "bits" in str(error) or "whole numbers" in str(error)
        else:
            raise AssertionError(f"{block} was coded")
    edge = np.array([2**31 - 1, -(2**31) + 1, 0])
    assert np.array_equal(CODINGS[name].decode(CODINGS[name].encode([edge]), [3])[0], edge)


CHECKS: dict[str, Callable[[str], None]] = {
    check.__name__: check
    for check in (
        it_is_registered_by_its_name,
        what_is_encoded_is_decoded,
        a_flipped_bit_is_refused,
        a_missing_end_is_refused,
        other_lengths_are_decoded_in_bounded_time,
        bytes_with_a_right_checksum_are_decoded_or_refused,
        too_large_codes_are_refused,
    )
}


def _drawn(length: int, alphabet: int, skew: float) -> np.ndarray:
    """Draw codes around 0; the larger the skew, the more of them are equal."""
    generator = np.random.default_rng(length + 1_000 * alphabet)
    shares = np.exp(-skew * np.arange(alphabet))
    return generator.choice(alphabet, length, p=shares / shares.sum()).astype(np.int64) - alphabet // 2


def _cases() -> Iterator[Blocks]:
    for length in LENGTHS:
        for alphabet in ALPHABETS:
            for skew in (0.0, 0.3, 20.0):
                yield [_drawn(length, alphabet, skew)]
    generator = np.random.default_rng(5)
    for length in (1, 5, 3_000):  # unbounded: most of them small, some of any size
        codes = np.round(generator.standard_t(1, length) * 40).clip(-(2**31) + 1, 2**31 - 1)
        yield [codes.astype(np.int64)]
    yield []
    yield [np.zeros(0, dtype=np.int64)] * 3
    small = ((0, 1, 0.0), (7, 300, 0.0), (1, 1, 0.0), (500, 4, 1.0), (0, 2, 0.0))
    yield [_drawn(*each) for each in small]
    yield [_drawn(100_000, 300, 0.05), _drawn(100_000, 2, 9.0)]


def _refused(name: str, content: bytes, lengths: list[int]) -> None:
    try:
        CODINGS[name].decode(content, lengths)
    except CodingError:
        return
    raise AssertionError(f"{len(content)} bytes were decoded to {lengths} codes")
