"""Every coding keeps the contract; the adaptive one comes close to what the codes' statistics allow."""

from collections.abc import Callable

import numpy as np
import pytest

from arsvd.codings import CODINGS
from arsvd.testing.codings import CHECKS


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
@pytest.mark.parametrize("name", CODINGS.names)
def test_every_coding(name: str, check: Callable[[str], None]) -> None:
    check(name)


def entropy(codes: np.ndarray) -> float:
    """Bytes of codes at the length of their own counts, which a decoder would have to know."""
    _, counts = np.unique(codes, return_counts=True)
    return float(-(counts * np.log2(counts / codes.size)).sum() / 8)


@pytest.mark.parametrize("scale", [0.4, 1.0, 3.0, 20.0])
@pytest.mark.parametrize("length", [1_000, 45_888])
def test_adaptive_codes_are_as_long_as_their_statistics(length: int, scale: float) -> None:
    """Within 2 % of the entropy, and 60 bytes for learning the statistics."""
    codes = np.round(np.random.default_rng(0).laplace(0, scale, length)).astype(np.int64)
    size, ideal = len(CODINGS["adaptive"].encode([codes])), entropy(codes)
    assert ideal < size < 1.02 * ideal + 60
    assert size < len(CODINGS["packed"].encode([codes]))


def test_adaptive_codes_beat_a_common_compressor() -> None:
    import zlib

    codes = np.round(np.random.default_rng(0).laplace(0, 1.0, 45_888)).astype(np.int8)
    assert len(CODINGS["adaptive"].encode([codes])) < 0.9 * len(zlib.compress(codes.tobytes(), 9))


def test_blocks_share_one_stream() -> None:
    """Ten blocks of a few codes take hardly more than their models' bytes."""
    blocks = [np.array([0, 1, 0, 0, -1])] * 10
    assert len(CODINGS["adaptive"].encode(blocks)) < 40


def test_packed_codes_have_the_width_of_the_widest() -> None:
    codes = np.arange(-8, 8)
    assert len(CODINGS["packed"].encode([codes])) == 5 + 16 * 4 // 8 + 4
