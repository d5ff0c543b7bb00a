"""Decoding image files of any kind and size into one array."""

from __future__ import annotations

import functools
import io
import os
import re
import sys
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from arsvd.data.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

Levels = NDArray[Any]

# Without a size, images that share one with sides of at most this keep it; others become DEFAULT_SIZE.
LARGEST_KEPT_SIDE = 64
DEFAULT_SIZE = (32, 32)
BROKEN_SHOWN = 5
CHUNK = 256
# Pillow goes by a file's first bytes, not by its ending, and starts Ghostscript on PostScript: formats that
# are not listed are not opened, whatever the file is called. Targa files have no first bytes of their own.
FORMATS = (
    *("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "AVIF", "JPEG2000"),
    *("DIB", "ICO", "PCX", "QOI", "SGI", "SUN"),
)
TARGA, MULTI_JPEG = "TGA", "MPO"  # the latter is opened as JPEG
_FLOATS = (".pfm",)
_ORIENTED = frozenset(("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"))
_QUARTER_TURNS = (5, 6, 7, 8)  # values of EXIF's orientation
_WIDE = re.compile(r"(?P<channels>RGB|RGBA|RGBX);16(?P<order>[LBN])")


class _Picture(NamedTuple):
    """One image.

    Args:
        levels: pixels `(height, width)` or `(height, width, 3)`; uint8, or float32 where there are more bits.
        transparent: True if it has transparent pixels.
        frames: number of frames in its file.
    """

    levels: Levels
    transparent: bool
    frames: int


@dataclass(frozen=True)
class Decoded:
    """Decoded images.

    Args:
        levels: pixels `(samples, channels, height, width)`: 1 channel if every image is greyscale, else 3.
            uint8, or float32 with the files' own levels where images have more than 8 bits a channel.
        transparent: number of images with transparent pixels, which were laid on white.
        animated: number of images with further frames, which were not read.
    """

    levels: Levels
    transparent: int
    animated: int


@functools.cache
def endings() -> frozenset[str]:
    """List the endings of files that are read, in lower case."""
    import PIL.Image

    PIL.Image.init()
    read = {*_formats(""), TARGA, MULTI_JPEG}
    known = PIL.Image.registered_extensions().items()
    return frozenset(ending for ending, name in known if name in read and ending not in _FLOATS)


def decode(paths: Sequence[str], size: tuple[int, int] | None) -> Decoded:
    """Decode images in threads, since Pillow decodes outside the interpreter lock.

    Images are turned as their EXIF orientation says. Transparent pixels are laid on white.

    Args:
        paths: image files.
        size: height and width in pixels; None keeps a shared size of at most 64×64, else 32×32.

    Raises:
        DataError: files cannot be decoded (the message names the first five with their causes, and counts
            all), or images of 8 and of more bits are mixed.
    """
    import PIL.Image

    endings()  # registers all of Pillow's formats once, which is not safe in several threads
    chunks = [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]
    with warnings.catch_warnings(), ThreadPoolExecutor(min(8, (os.cpu_count() or 1) + 1)) as pool:
        # refused below, in words
        warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)
        decoded = pool.map(lambda chunk: [_try_decode(path, size) for path in chunk], chunks)
        results = [result for chunk in decoded for result in chunk]
    broken = [
        f"\n  {path}: {fault}" for path, fault in zip(paths, results, strict=True) if isinstance(fault, str)
    ]
    if broken:
        more = f"\n  and {len(broken) - BROKEN_SHOWN} more" if len(broken) > BROKEN_SHOWN else ""
        raise DataError(
            f"{len(broken)} of {len(paths)} images cannot be decoded:{''.join(broken[:BROKEN_SHOWN])}{more}\n"
            "Repair or remove these files."
        )
    pictures = [picture for picture in results if not isinstance(picture, str)]
    _refuse_two_depths(paths, pictures)
    return Decoded(
        _stack([picture.levels for picture in pictures], size),
        sum(picture.transparent for picture in pictures),
        sum(picture.frames > 1 for picture in pictures),
    )


def _refuse_two_depths(paths: Sequence[str], pictures: Sequence[_Picture]) -> None:
    deep = [picture.levels.dtype != np.uint8 for picture in pictures]
    if any(deep) and not all(deep):
        raise DataError(
            f"{paths[deep.index(True)]} has 16 or 32 bits a pixel and {paths[deep.index(False)]} has 8: no "
            "scale fits both. Bring all images to one depth."
        )


def _try_decode(path: str, size: tuple[int, int] | None) -> _Picture | str:
    try:
        # Given a path, Pillow maps uncompressed TIFF into memory, and then scrambles images that EXIF turns
        # by a quarter (13.0); from a file it reads as much as the file claims to hold, into a buffer of
        # gigabytes.
        with open(path, "rb") as file:
            content = io.BytesIO(file.read())
        return _decode_one(content, path, size)
    except MemoryError:
        raise
    except Exception as fault:  # Pillow raises a dozen unrelated types on a broken file
        # Pillow names the buffer, which tells nobody anything; the caller's message starts with the path.
        return re.sub(r" <_io\.BytesIO[^<>]*>", "", str(fault)) or type(fault).__name__


def _decode_one(file: BinaryIO, path: str, size: tuple[int, int] | None) -> _Picture:
    """Decode one image; a large one is resized here, to save memory."""
    import PIL.Image

    with PIL.Image.open(file, formats=_formats(path)) as image:
        _refuse_huge(image)
        # an MPO's further frames are the same photo in other sizes or from another viewpoint
        frames = 1 if image.format == MULTI_JPEG else getattr(image, "n_frames", 1)
        target = size
        if target is None and max(image.size) > LARGEST_KEPT_SIDE:
            target = DEFAULT_SIZE
        if _is_wide_colour(image):
            return _Picture(_resize_levels(_wide_colour(image, file, path), target), False, frames)
        if target is not None and image.format in ("JPEG", MULTI_JPEG):
            # A JPEG can be decoded at a half, a quarter or an eighth of its size, much faster.
            width, height = 2 * target[1], 2 * target[0]
            image.draft(None, (height, width) if _orientation(image) in _QUARTER_TURNS else (width, height))
        _turn_upright(image)
        if image.mode == "F" or image.mode.startswith("I"):
            return _Picture(_resize_levels(_deep_grey(image), target), False, frames)
        flat, transparent = _on_white(image)
        return _Picture(np.asarray(_resize(flat, target)), transparent, frames)


def _formats(path: str) -> tuple[str, ...]:
    """List the formats that a file may have: Targa by its ending, else all that this Pillow can read."""
    import PIL.Image

    ending = os.path.splitext(path)[1].lower()
    if PIL.Image.registered_extensions().get(ending) == TARGA:
        return (TARGA,)
    return tuple(name for name in FORMATS if name in PIL.Image.OPEN)


def _refuse_huge(image: Image) -> None:
    import PIL.Image

    most = PIL.Image.MAX_IMAGE_PIXELS
    if most is not None and image.width * image.height > most:
        raise ValueError(f"has {image.width}×{image.height} pixels, more than the {most:,} that are read")


def _orientation(image: Image) -> int:
    """Read EXIF's orientation; 1 (upright) where none is readable. TIFF's is applied by Pillow."""
    if image.format == "TIFF" or _ORIENTED.isdisjoint(image.info):
        return 1
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:  # damaged EXIF raises whatever its parsers raise: such an image stays as stored
        return 1


def _turn_upright(image: Image) -> None:
    from PIL import ImageOps

    image.load()  # a PNG's orientation may be stored behind its pixels
    if _orientation(image) != 1:
        ImageOps.exif_transpose(image, in_place=True)


def _on_white(image: Image) -> tuple[Image, bool]:
    """Return the image in mode L (greyscale) or RGB, and True if it had transparent pixels."""
    import PIL.Image

    mode = "L" if image.mode in ("1", "L", "LA", "La") else "RGB"
    if not image.has_transparency_data:
        return image.convert(mode), False
    whole = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    transparent = np.asarray(whole.getchannel("A")).min() < 255
    if transparent:
        whole = PIL.Image.alpha_composite(PIL.Image.new("RGBA", whole.size, "white"), whole)
    return whole.convert(mode), bool(transparent)


def _deep_grey(image: Image) -> Levels:
    """Return the levels of 16 or 32 bit greyscale, as float32 `(height, width)`."""
    if image.mode == "F":
        raise ValueError("holds floating-point pixels, whose range is unknown")
    if "transparency" in image.info:
        raise ValueError("holds 16-bit greyscale with a transparent level; convert it to 8 bits")
    levels = np.asarray(image)
    if levels.min() < 0:
        raise ValueError(f"holds negative greyscale values, down to {levels.min()}")
    return levels.astype(np.float32)


def _raw_mode(image: ImageFile) -> str:
    arguments = image.tile[0].args if image.tile else ""
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


def _is_wide_colour(image: ImageFile) -> bool:
    """Tell whether colour or transparency has 16 bits a channel; Pillow would keep only the upper eight."""
    return image.mode in ("RGB", "RGBA", "CMYK") and ";16" in _raw_mode(image)


def _wide_colour(image: ImageFile, file: BinaryIO, path: str) -> Levels:
    """Return the levels of colour with 16 bits a channel, as float32 `(height, width, 3)`.

    Pillow has no mode for them. It takes one byte of every two, and the raw mode decides which one, so the
    image is decoded twice.
    """
    import PIL.Image

    raw = _raw_mode(image)
    known = _WIDE.fullmatch(raw)
    if known is None or "transparency" in image.info:
        raise ValueError("holds 16 bits a channel in a form that is not read; convert it to 8 bits")
    _turn_upright(image)
    little = known["order"] == "L" or (known["order"] == "N" and sys.byteorder == "little")
    file.seek(0)
    with PIL.Image.open(file, formats=_formats(path)) as again:
        again.tile = [
            tile._replace(args=_with_raw_mode(tile.args, f"{known['channels']};16{'B' if little else 'L'}"))
            for tile in again.tile
        ]
        _turn_upright(again)
        levels = np.asarray(image, dtype=np.float32) * 256 + np.asarray(again)
    if levels.shape[2] == 4 and levels[..., 3].min() < 65535:
        raise ValueError("holds 16 bits a channel and transparent pixels; convert it to 8 bits")
    return np.ascontiguousarray(levels[..., :3])


def _with_raw_mode(arguments: Any, raw: str) -> Any:
    return (raw, *arguments[1:]) if isinstance(arguments, tuple) else raw


def _resize(image: Image, size: tuple[int, int] | None) -> Image:
    import PIL.Image

    if size is None or (image.height, image.width) == size:
        return image
    return image.resize((size[1], size[0]), PIL.Image.Resampling.BILINEAR)


def _resize_levels(levels: Levels, size: tuple[int, int] | None) -> Levels:
    import PIL.Image

    if size is None or levels.shape[:2] == size:
        return levels
    if levels.ndim == 3 and levels.dtype != np.uint8:  # Pillow has no mode for these
        bands = [_resize_levels(np.ascontiguousarray(band), size) for band in np.moveaxis(levels, 2, 0)]
        return np.stack(bands, axis=2)
    return np.asarray(_resize(PIL.Image.fromarray(levels), size))


def _stack(pictures: list[Levels], size: tuple[int, int] | None) -> Levels:
    if size is None:
        sizes = {(picture.shape[0], picture.shape[1]) for picture in pictures}
        size = sizes.pop() if len(sizes) == 1 else DEFAULT_SIZE
    channels = 3 if any(picture.ndim == 3 for picture in pictures) else 1
    stacked = np.empty((len(pictures), channels, *size), dtype=pictures[0].dtype)
    for row, picture in zip(stacked, pictures, strict=True):
        whole = _resize_levels(picture, size)
        # A greyscale picture fills all three channels of a row of colour.
        row[:] = whole.transpose(2, 0, 1) if whole.ndim == 3 else whole
    return stacked
