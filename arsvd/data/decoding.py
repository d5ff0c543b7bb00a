"""Decoding image files of any kind and size into one uint8 array."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from arsvd.data.dataset import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

Pixels = NDArray[np.uint8]

# Without a size, images that share one of at most this side keep it; others are brought to DEFAULT_SIZE.
LARGEST_KEPT_SIDE = 64
DEFAULT_SIZE = (32, 32)
BROKEN_SHOWN = 5
CHUNK = 256


def decode(paths: Sequence[str], size: tuple[int, int] | None) -> Pixels:
    """Decode images, in threads, since Pillow decodes outside the interpreter lock.

    Args:
        paths: The files.
        size: `(height, width)` in pixels; None keeps a shared size of at most 64×64, else 32×32.

    Returns:
        uint8 `(samples, channels, height, width)`: 1 channel if every image is greyscale, else 3.

    Raises:
        DataError: Files that cannot be decoded: the first five by name and cause, and how many.
    """
    chunks = [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]
    with ThreadPoolExecutor(min(8, (os.cpu_count() or 1) + 1)) as pool:
        decoded = pool.map(lambda chunk: [_try_decode(path, size) for path in chunk], chunks)
        pictures = [picture for chunk in decoded for picture in chunk]
    results = zip(paths, pictures, strict=True)
    broken = [f"\n  {path}: {fault}" for path, fault in results if isinstance(fault, str)]
    if broken:
        more = f"\n  and {len(broken) - BROKEN_SHOWN} more" if len(broken) > BROKEN_SHOWN else ""
        raise DataError(
            f"{len(broken)} of {len(paths)} images cannot be decoded:{''.join(broken[:BROKEN_SHOWN])}{more}\n"
            "Repair or remove these files."
        )
    return _stack([picture for picture in pictures if not isinstance(picture, str)], size)


def _try_decode(path: str, size: tuple[int, int] | None) -> Pixels | str:
    try:
        return _decode_one(path, size)
    except MemoryError:
        raise
    except Exception as fault:  # Pillow raises a dozen unrelated types on a broken file
        # Pillow repeats the path, which the caller's message already starts with.
        return str(fault).replace(f" {path!r}", "") or type(fault).__name__


def _decode_one(path: str, size: tuple[int, int] | None) -> Pixels:
    """One image, `(height, width)` or `(height, width, 3)`; a large one is resized here, to save memory."""
    import PIL.Image

    with PIL.Image.open(path) as image:
        target = size
        if target is None and max(image.size) > LARGEST_KEPT_SIDE:
            target = DEFAULT_SIZE
        if target is not None:
            # A JPEG can be decoded at a half, a quarter or an eighth of its size, much faster.
            image.draft(None, (2 * target[1], 2 * target[0]))
        return _resize(_eight_bits(image), target)


def _eight_bits(image: Image) -> Image:
    """The image in mode L (greyscale) or RGB."""
    import PIL.Image

    if image.mode.startswith("I"):
        # convert("L") would clip 16-bit greyscale to white.
        levels = np.asarray(image)
        if levels.min() < 0 or levels.max() > 65535:
            raise ValueError(f"holds greyscale values from {levels.min()} to {levels.max()}, outside 16 bits")
        return PIL.Image.fromarray((levels >> 8).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("holds floating-point pixels, whose range is unknown")
    return image.convert("L" if image.mode in ("1", "L", "LA", "La") else "RGB")


def _resize(image: Image, size: tuple[int, int] | None) -> Pixels:
    import PIL.Image

    if size is not None and (image.height, image.width) != size:
        image = image.resize((size[1], size[0]), PIL.Image.Resampling.BILINEAR)
    return np.asarray(image)


def _stack(pictures: list[Pixels], size: tuple[int, int] | None) -> Pixels:
    import PIL.Image

    if size is None:
        sizes = {(picture.shape[0], picture.shape[1]) for picture in pictures}
        size = sizes.pop() if len(sizes) == 1 else DEFAULT_SIZE
    channels = 3 if any(picture.ndim == 3 for picture in pictures) else 1
    stacked = np.empty((len(pictures), channels, *size), dtype=np.uint8)
    for row, picture in zip(stacked, pictures, strict=True):
        whole = picture if picture.shape[:2] == size else _resize(PIL.Image.fromarray(picture), size)
        # A greyscale picture fills all three channels of a row of colour.
        row[:] = whole.transpose(2, 0, 1) if whole.ndim == 3 else whole
    return stacked
