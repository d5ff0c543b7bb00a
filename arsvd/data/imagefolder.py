"""Any directory of class folders of images."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from numbers import Integral
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from arsvd.data.copies import Once, keep_once
from arsvd.data.dataset import Source, Split
from arsvd.data.decoding import Decoded, Levels, decode
from arsvd.data.errors import DataError
from arsvd.data.layout import EXPECTED, find_layout
from arsvd.data.roots import absolute
from arsvd.data.scanning import Found, refuse_same, scan
from arsvd.data.splitting import TEST_SEED, held_samples
from arsvd.memory import free_memory

# Ranks of the splits: an image that two splits share stays in the later one.
_LEFT_OUT, _TRAIN, _VALIDATION, _TEST = -1, 0, 1, 2
_NAMED = 5  # sets of contradicting images that a message names


def read(
    path: Path | str | None,
    size: tuple[int, int] | int | None,
    test: float,
    *,
    validation: int | float,
    seed: int = 0,
) -> Source:
    """Read a directory of images, each image once, and split it so that no two splits share an image.

    Hidden and system files and folders are ignored. Of equal images in one class one is read; of those in
    several classes, none. Training images that a test folder repeats are left out of training.

    Args:
        path: directory of class folders, or of train/ and test/ with the same class folders in each, by these
            or similar names (`layout.WORDS`). val/ is taken as the test split where there is no test/, and is
            not read where there is one.
        size: height and width in pixels, or one number for both; None for the default of `decoding.decode`.
        test: share held out as the test split, always the same images, where the directory has no test split.
        validation: amount of training images to hold out, see `splitting.hold_out`.
        seed: seed that chooses the validation images.

    Raises:
        DataError: the directory has another layout, fewer than two classes, an empty class, images that
            cannot be decoded, or only images that are all equal.
    """
    if path is None or not str(path):
        raise DataError(f"imagefolder needs a directory: dataset.path=DIR. {EXPECTED}")
    folder = absolute(path)
    if not folder.is_dir():
        state = "is a file, not a directory" if folder.exists() else "does not exist"
        raise DataError(f"the image folder {folder} {state}. Give another dataset.path. {EXPECTED}")
    pixels = _as_size(size)
    layout = find_layout(folder)
    found = [scan(part, folder) for part in (layout.train, layout.test) if part is not None]
    if len(found) == 2:
        _require_same(*found)
        refuse_same([part.folder / name for part in found for name in part.classes])
    classes = found[0].classes
    paths = [file for part in found for file in part.paths]
    labels = np.array([label for part in found for label in part.labels], dtype=np.int64)
    _require_room(len(paths), pixels)
    # Decoded together, so that both splits get one size and one number of channels.
    decoded = decode(paths, pixels)
    ranks = np.repeat([_TRAIN, _TEST][: len(found)], [len(part.paths) for part in found])

    once = keep_once(decoded.levels, labels, ranks)
    if once.distinct == 1:
        raise DataError(f"all {len(paths)} images of {folder} are equal: there is nothing to learn.")
    copies = _copy_notes(once, paths, folder)
    ranks[~once.kept] = _LEFT_OUT
    try:
        if layout.test is None:
            _hold_out(ranks, labels, test, TEST_SEED, _TEST, classes, "test")
        _hold_out(ranks, labels, validation, seed, _VALIDATION, classes, "validation")
    except DataError as fault:
        raise DataError("; ".join([str(fault), *copies])) from fault
    images, scale, scale_notes = _eight_bits(decoded.levels, labels, ranks)
    splits = [_split(images, labels, ranks == rank) for rank in (_TRAIN, _VALIDATION, _TEST)]
    _require_every_class(splits, classes, copies)
    return Source(
        classes,
        splits[0],
        splits[2],
        validation=splits[1],
        notes=(*_file_notes(found, paths, folder), *layout.notes, *copies, *_kinds(decoded), *scale_notes),
        scale=scale,
    )


def _require_room(images: int, size: tuple[int, int] | None) -> None:
    """Refuse a size at which the images would not fit into memory, before decoding them takes minutes."""
    free = free_memory()
    if size is None or free is None:
        return
    # at least one byte a pixel, for each image by itself and again in the array of all
    needed = 2 * images * size[0] * size[1]
    if needed > free:
        raise DataError(
            f"{images} images of {size[0]}×{size[1]} pixels take {needed / 1e9:.1f} GB at least, and "
            f"{free / 1e9:.1f} GB of memory are free: lower dataset.size"
        )


def _as_size(size: tuple[int, int] | int | None) -> tuple[int, int] | None:
    if size is None:
        return None
    sides = (size, size) if isinstance(size, Integral) else size
    if (
        not isinstance(sides, Sequence)
        or len(sides) != 2
        or any(isinstance(side, bool) or not isinstance(side, Integral) or side < 1 for side in sides)
    ):
        raise DataError(
            f"dataset.size must be a number of pixels or [height, width], each at least 1; got {size!r}"
        )
    return int(sides[0]), int(sides[1])


def _require_same(train: Found, test: Found) -> None:
    differences = [
        f"only in {folder}: {', '.join(names)}"
        for folder, names in (
            (train.folder, [name for name in train.classes if name not in test.classes]),
            (test.folder, [name for name in test.classes if name not in train.classes]),
        )
        if names
    ]
    if differences:
        raise DataError(
            f"the class folders of the training and the test split differ; {'; '.join(differences)}. "
            "Give both splits the same class folders."
        )


def _hold_out(
    ranks: NDArray[np.int64],
    labels: NDArray[np.int64],
    amount: int | float,
    seed: int,
    rank: int,
    classes: tuple[str, ...],
    option: str,
) -> None:
    """Give a part of the training images another rank, in place."""
    pool = np.flatnonzero(ranks == _TRAIN)
    ranks[pool[held_samples(labels[pool], amount, seed, classes=classes, option=option)]] = rank


def _eight_bits(
    levels: Levels, labels: NDArray[np.int64], ranks: NDArray[np.int64]
) -> tuple[NDArray[np.uint8], float, list[str]]:
    """Bring levels of more than 8 bits to 8, all by one scale: the largest of the training split is 255.

    Images that become equal are then left out like other copies: their rank changes, in place.

    Returns:
        The images, the level that is white, and sentences that say what was done.
    """
    if levels.dtype == np.uint8:
        return levels, 255.0, []
    peaks = levels.reshape(len(levels), -1).max(axis=1)
    scale = float(peaks[ranks == _TRAIN].max())
    if scale == 0:
        raise DataError("every training image is black: there is nothing to learn.")
    images = np.empty(levels.shape, dtype=np.uint8)
    for row, image in zip(images, levels, strict=True):
        row[:] = np.rint(np.minimum(image * (255 / scale), 255))
    notes = [
        f"levels of 16 or 32 bits are divided by {scale:g}, the largest of the training images, to lie in "
        "[0, 1]; whoever uses a model must do the same"
    ]
    beyond = int(np.count_nonzero((peaks > scale) & (ranks > _TRAIN)))
    if beyond:
        notes.append(f"{beyond} validation or test images have larger levels, which count as 1")
    read = np.flatnonzero(ranks != _LEFT_OUT)
    once = keep_once(images[read], labels[read], ranks[read])
    ranks[read[~once.kept]] = _LEFT_OUT
    if not once.kept.all():
        notes.append(f"{int(np.count_nonzero(~once.kept))} images equal others in 8 bits and are left out")
    return images, scale, notes


def _split(images: NDArray[np.uint8], labels: NDArray[np.int64], chosen: NDArray[np.bool_]) -> Split:
    return Split(torch.from_numpy(images[chosen]), torch.from_numpy(labels[chosen]))


def _require_every_class(splits: Sequence[Split], classes: tuple[str, ...], copies: Sequence[str]) -> None:
    for name, split in zip(("training", "validation", "test"), splits, strict=True):
        counts = np.bincount(split.labels.numpy(), minlength=len(classes))
        missing = [label for label, count in zip(classes, counts, strict=True) if not count]
        if missing:
            raise DataError(
                "; ".join([f"no image of {', '.join(missing)} is left in the {name} split", *copies])
            )


def _file_notes(found: Sequence[Found], paths: Sequence[str], folder: Path) -> list[str]:
    others: Counter[str] = Counter()
    for part in found:
        others += part.left_out
    notes = [f"{len(paths):,} image files in {folder}"]
    if others:
        listed = ", ".join(f"{count:,} {what}" for what, count in sorted(others.items()))
        notes.append(f"left out: {listed}")
    return notes


def _copy_notes(once: Once, paths: Sequence[str], folder: Path) -> list[str]:
    notes = []
    if once.copies:
        notes.append(f"{once.copies:,} images equal others of their class and are left out")
    if once.repeated:
        notes.append(
            f"{once.repeated:,} training images are in the test folder too and are left out of training"
        )
    if once.contradicting:
        groups = [
            " = ".join(os.path.relpath(paths[index], folder) for index in group)
            for group in once.contradicting[:_NAMED]
        ]
        more = f", and {len(once.contradicting) - _NAMED:,} more" if len(once.contradicting) > _NAMED else ""
        count = sum(map(len, once.contradicting))
        notes.append(
            f"{count:,} images equal others of another class and are left out: {', '.join(groups)}{more}"
        )
    return notes


def _kinds(decoded: Decoded) -> list[str]:
    notes = []
    if decoded.transparent:
        notes.append(f"{decoded.transparent:,} images have transparent pixels, which are laid on white")
    if decoded.animated:
        notes.append(f"{decoded.animated:,} images have several frames, of which the first is read")
    return notes
