"""The data sets by name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from arsvd.data.dataset import Dataset, Split, describe
from arsvd.data.errors import DataError
from arsvd.data.roots import data_root
from arsvd.data.sources import SOURCES, Request
from arsvd.data.splitting import hold_out

NAMES: tuple[str, ...] = SOURCES.names


def load(
    name: str,
    *,
    root: Path | str | None = None,
    path: Path | str | None = None,
    validation: int | float,
    seed: int = 0,
    size: tuple[int, int] | int | None = None,
    test: float | None = None,
    confirmation: int | float | None = None,
) -> Dataset:
    """Load a data set, hold out its validation split, and measure it.

    Args:
        name: name of the data set, one of `NAMES`.
        root: data directory; None for the default of `data_root`.
        path: directory of images; needed by `imagefolder`, and taken by no other source.
        validation: amount to hold out of the training split, stratified: an int counts images, a float in
            (0, 1) is a share.
        seed: seed that chooses the validation images, the same on every platform. It never moves a test
            image.
        size: height and width in pixels, or one number for both; `imagefolder` only.
        test: share that `imagefolder` holds out as the test split where the directory has none; 0.2 when
            None. Every other source has a fixed test split.
        confirmation: amount to hold out of what `validation` leaves of the training split, in the same way;
            None for nothing.

    Raises:
        DataError: the name is unknown, data is missing or broken, or a split cannot be made.
    """
    _require_known(name)
    try:
        given = {"path": path, "size": size, "test": test}
        _refuse_foreign(name, given)
        source = SOURCES[name].read(Request(data_root(root), validation, seed, given))
    except OSError as fault:
        raise DataError(f"{name} cannot be read: {fault}") from fault
    train, held = source.train, source.validation
    if held is None:
        train, held = hold_out(train, validation, seed, classes=source.classes, option="validation")
    confirming = None
    if confirmation is not None:
        train, confirming = hold_out(train, confirmation, seed, classes=source.classes, option="confirmation")
    _refuse_flat(train)
    described = describe(name, source.classes, train, held, source.test, confirming)
    return replace(described, notes=source.notes, scale=source.scale)


def fetch(name: str, *, root: Path | str | None = None) -> Path:
    """Download a data set, unless it is already there and whole.

    Args:
        name: name of the data set, one of `NAMES`.
        root: data directory; None for the default of `data_root`.

    Returns:
        The directory that holds its files.

    Raises:
        DataError: the name is unknown, or the download failed, with its cause. No half-written file is left.
    """
    _require_known(name)
    return SOURCES[name].fetch(data_root(root))


def _refuse_flat(train: Split) -> None:
    # a few images are enough to rule out almost every other data set
    for images in (train.images[:100], train.images):
        pixels = images.flatten(1)
        if bool((pixels.amin(1) != pixels.amax(1)).any()):
            return
    raise DataError("every training image has one value in all its pixels: there is nothing to learn.")


def _refuse_foreign(name: str, given: Mapping[str, object]) -> None:
    own = {option.key for option in SOURCES[name].options}
    for option, value in given.items():
        if value is not None and f"dataset.{option}" not in own:
            raise DataError(
                f"dataset.{option}={value} is for imagefolder; {name} takes none. "
                "Remove it, or give dataset.name=imagefolder."
            )


def _require_known(name: str) -> None:
    if name not in NAMES:
        near = difflib.get_close_matches(str(name).lower(), NAMES, n=1, cutoff=0.5)
        guess = f"; did you mean {near[0]!r}?" if near else "."
        raise DataError(f"unknown data set {name!r}{guess} The data sets are {', '.join(NAMES)}.")
