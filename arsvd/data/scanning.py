"""The image files of class folders, and what else is in them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from arsvd.data.decoding import endings
from arsvd.data.errors import DataError
from arsvd.data.layout import EXPECTED, is_system, subfolders


@dataclass
class Found:
    """The image files of one split.

    Args:
        folder: folder that holds the class folders.
        classes: names of the class folders, sorted.
        paths: paths of the image files.
        labels: class index of each file.
        left_out: counts of everything else that is there, by kind.
    """

    folder: Path
    classes: tuple[str, ...]
    paths: list[str] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def scan(folder: Path, root: Path) -> Found:
    """List the images of a folder of class folders, in an order that does not depend on the disk.

    Links are followed to files, to class folders, and to folders outside the data set. No folder is entered
    twice for one class, and no folder of the data set is entered from inside another one.

    Args:
        folder: folder that holds the class folders.
        root: root folder of the whole data set.

    Raises:
        DataError: there are fewer than two classes, two that are one folder, or one without images.
    """
    names = subfolders(folder)
    if len(names) < 2:
        seen = f"only one class folder, {names[0]}/" if names else "no class folders"
        raise DataError(f"{folder} has {seen}; at least two classes are needed. {EXPECTED}")
    found = Found(folder, tuple(names))
    refuse_same([folder / name for name in names])
    _count_beside(found)
    real = os.path.realpath(root)
    for label, name in enumerate(names):
        files: list[tuple[str, list[str]]] = []
        others: Counter[str] = Counter()
        _walk(str(folder / name), real, set(), files, others)
        found.left_out += others
        count = len(found.paths)
        found.paths += [
            os.path.join(place, file) for place, inside in sorted(files) for file in sorted(inside)
        ]
        found.labels += [label] * (len(found.paths) - count)
    _require_images(found)
    return found


def labels(found: Found) -> NDArray[np.int64]:
    """Return the label of each file."""
    return np.array(found.labels, dtype=np.int64)


def refuse_same(folders: Sequence[Path]) -> None:
    """Refuse class folders that are the same folder, or lie in one another, through links.

    Raises:
        DataError: there are two such folders.
    """
    places: dict[str, Path] = {}
    for folder in folders:
        place = os.path.realpath(folder)
        above = [place, *map(str, Path(place).parents)]
        same = next((places[parent] for parent in above if parent in places), None)
        same = same or next(
            (p for q, p in places.items() if q.startswith(place.rstrip(os.sep) + os.sep)), None
        )
        if same is not None:
            raise DataError(
                f"{folder} and {same} lead to the same images, in {place}. Remove one of them: no image can "
                "belong to two classes, or to two splits."
            )
        places[place] = folder


def _walk(
    place: str,
    root: str,
    entered: set[tuple[int, int]],
    files: list[tuple[str, list[str]]],
    others: Counter[str],
) -> None:
    status = os.stat(place)
    identity = status.st_dev, status.st_ino
    if identity in entered:
        others["links to folders that were read already"] += 1
        return
    entered.add(identity)
    images: list[str] = []
    files.append((place, images))
    with os.scandir(place) as scanned:
        entries = list(scanned)
    for entry in entries:
        if is_system(entry.name):
            others["hidden or system files and folders"] += 1
        elif _holds(entry.is_dir):
            if entry.is_symlink() and _is_around(os.path.realpath(entry.path), root):
                others["links to folders of the data set itself"] += 1
            else:
                _walk(entry.path, root, entered, files, others)
        elif (reason := _reason(entry)) is not None:
            others[reason] += 1
        else:
            images.append(entry.name)


def _holds(question: Callable[[], bool]) -> bool:
    """Answer a question about an entry; a link that leads in a circle is nothing."""
    try:
        return question()
    except OSError:
        return False


def _reason(entry: os.DirEntry[str]) -> str | None:
    """Say why a file is not read; None where it is. A dangling link is read, and named when it fails."""
    ending = os.path.splitext(entry.name)[1].lower()
    if ending not in endings():
        return f"{ending} files" if ending else "files without an ending"
    if not _holds(entry.is_file) and not (entry.is_symlink() and not os.path.exists(entry.path)):
        return "pipes, sockets or devices"
    return None


def _is_around(place: str, root: str) -> bool:
    """Tell whether a folder lies in the data set, or holds it."""
    return os.path.commonpath([place, root]) in (place, root)


def _count_beside(found: Found) -> None:
    with os.scandir(found.folder) as entries:
        for entry in entries:
            if is_system(entry.name):
                found.left_out["hidden or system files and folders"] += 1
            elif not entry.is_dir():
                kind = "images" if _reason(entry) is None else "other files"
                found.left_out[f"{kind} beside the class folders"] += 1


def _require_images(found: Found) -> None:
    counts = np.bincount(labels(found), minlength=len(found.classes))
    empty = [name for name, count in zip(found.classes, counts, strict=True) if not count]
    if empty:
        there = "".join(f"; {count} {what}" for what, count in sorted(found.left_out.items()))
        raise DataError(
            f"no images in the class folder{'s' if len(empty) > 1 else ''} {', '.join(empty)} of "
            f"{found.folder}{there}. Add images (.jpg, .png, .bmp, .gif, .tif, .webp and others) or remove "
            "the folder."
        )
