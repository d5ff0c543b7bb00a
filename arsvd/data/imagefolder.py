"""Any directory of class folders of images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from numbers import Integral
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from arsvd.data.dataset import DataError, Source, Split
from arsvd.data.decoding import decode
from arsvd.data.roots import absolute
from arsvd.data.splitting import TEST_SEED, hold_out

SPLIT_WORDS = frozenset(
    ("train", "training", "test", "testing", "val", "valid", "validation", "dev", "eval", "evaluation")
)
EXPECTED = (
    "An image folder holds one folder a class with its images inside, or train/ and test/ (or val/) that "
    "each hold such class folders."
)


def read(path: Path | str | None, size: tuple[int, int] | int | None = None, test: float = 0.2) -> Source:
    """Read a directory of images.

    Args:
        path: Directory of class folders, or of train/ and test/ with the same class folders in each. val/ is
            taken as the test split where there is no test/, and is not read where there is one.
        size: `(height, width)` in pixels, or one number for both; None as in `decoding.decode`.
        test: Share held out as the test split, always the same images, where the directory has no test split.

    Raises:
        DataError: A directory of another layout, with fewer than two classes, with an empty class, or with
            images that cannot be decoded.
    """
    if path is None or not str(path):
        raise DataError(f"imagefolder needs a directory: dataset.path=DIR. {EXPECTED}")
    folder = absolute(path)
    if not folder.is_dir():
        state = "is a file, not a directory" if folder.exists() else "does not exist"
        raise DataError(f"the image folder {folder} {state}. Give another dataset.path. {EXPECTED}")
    pixels = _as_size(size)
    train_folder, test_folder = _parts(folder)
    classes = _classes(train_folder)
    train_paths, train_labels = _files(train_folder, classes)
    test_paths: list[str] = []
    test_labels = np.empty(0, dtype=np.int64)
    if test_folder is not None:
        _require_same(train_folder, classes, test_folder, _classes(test_folder))
        test_paths, test_labels = _files(test_folder, classes)

    # Decoded together, so that both splits get one size and one number of channels.
    images = torch.from_numpy(decode([*train_paths, *test_paths], pixels))
    labels = torch.from_numpy(np.concatenate([train_labels, test_labels]))
    count = len(train_paths)
    train = Split(images[:count], labels[:count])
    if test_folder is not None:
        # Cloned: a view would keep the training images in memory for as long as the test split lives.
        return Source(classes, train, Split(images[count:].clone(), labels[count:].clone()))
    kept, held = hold_out(train, test, TEST_SEED, classes=classes, option="test")
    return Source(classes, kept, held)


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


def _subfolders(folder: Path) -> list[str]:
    # Hidden folders are left by file managers and notebooks; none is a class.
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def _parts(folder: Path) -> tuple[Path, Path | None]:
    """The folders of the training and the test split; no second one where there is no test split."""
    names = _subfolders(folder)
    nested = {name for name in names if _subfolders(folder / name)}
    if "train" in nested:
        for name in ("test", "val"):
            if name in names:
                return folder / "train", folder / name
        return folder / "train", None
    if names and all(name.lower() in SPLIT_WORDS for name in names):
        raise DataError(
            f"{folder} holds {', '.join(f'{name}/' for name in names)}, which look like splits, but no "
            f"train/ with class folders inside. {EXPECTED}"
        )
    return folder, None


def _classes(folder: Path) -> tuple[str, ...]:
    names = _subfolders(folder)
    if len(names) < 2:
        found = f"only one class folder, {names[0]}/" if names else "no class folders"
        raise DataError(f"{folder} has {found}; at least two classes are needed. {EXPECTED}")
    return tuple(names)


def _files(folder: Path, classes: tuple[str, ...]) -> tuple[list[str], NDArray[np.int64]]:
    from torchvision.datasets.folder import IMG_EXTENSIONS, is_image_file, make_dataset

    indices = {name: index for index, name in enumerate(classes)}
    samples: list[tuple[str, int]] = make_dataset(
        str(folder),
        indices,
        is_valid_file=lambda path: is_image_file(path) and not os.path.basename(path).startswith("."),
        allow_empty=True,
    )
    labels = np.array([label for _, label in samples], dtype=np.int64)
    empty = [name for name in classes if not np.any(labels == indices[name])]
    if empty:
        raise DataError(
            f"no images in the class folder{'s' if len(empty) > 1 else ''} {', '.join(empty)} of {folder}. "
            f"Add images ({', '.join(IMG_EXTENSIONS)}) or remove the folder."
        )
    return [path for path, _ in samples], labels


def _require_same(
    train_folder: Path, train: tuple[str, ...], test_folder: Path, test: tuple[str, ...]
) -> None:
    differences = [
        f"only in {folder}: {', '.join(names)}"
        for folder, names in (
            (train_folder, [name for name in train if name not in test]),
            (test_folder, [name for name in test if name not in train]),
        )
        if names
    ]
    if differences:
        raise DataError(
            f"the class folders of the training and the test split differ; {'; '.join(differences)}. "
            "Give both splits the same class folders."
        )
