"""Which folders of an image folder are splits, and which are classes."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from arsvd.data.errors import DataError

TRAIN, TEST, VALIDATION = "train", "test", "validation"
WORDS = {
    TRAIN: ("train", "training", "trainval"),
    TEST: ("test", "testing", "eval", "evaluation"),
    VALIDATION: ("val", "valid", "validation", "dev"),
}
EXPECTED = (
    "An image folder holds one folder a class with its images inside, or train/ and test/ (or val/) that "
    "each hold such class folders."
)
# Left by file managers, notebooks, archives and network drives, besides all names that begin with a dot.
_SYSTEM = {
    *("@eadir", "@recycle", "@recently-snapshot", "@snapshot", "@tmp", "#recycle", "#snapshot", "__macosx"),
    *("$recycle.bin", "recycler", "system volume information", "lost+found", "network trash folder"),
    *("temporary items", "__pycache__"),
}
_AFFIXES = "set|sets|data|dataset|split|images|image|imgs|img|dir|folder"
_ROLES = {
    role: re.compile(rf"(?:^|[^a-z]|{_AFFIXES})(?:{'|'.join(words)})(?:{_AFFIXES})?(?=[^a-z]|$)")
    for role, words in WORDS.items()
}
_ALL_WORDS = "|".join(word for words in WORDS.values() for word in words)
_EXACT = re.compile(rf"(?:{_AFFIXES})?[^a-z]*(?:{_ALL_WORDS})[^a-z]*(?:{_AFFIXES})?[^a-z]*")
_DEEPEST = 3  # folders that hold nothing but one folder, as in unpacked archives


@dataclass(frozen=True)
class Layout:
    """Where an image folder keeps its splits.

    Args:
        train: folder of the class folders to train on.
        test: folder of the same class folders for the test split; None where there is none.
        notes: sentences that say what was decided.
    """

    train: Path
    test: Path | None
    notes: tuple[str, ...]


def is_system(name: str) -> bool:
    """Tell whether a file or folder of this name is hidden, or left by a system: never data."""
    return name.startswith(".") or name.lower() in _SYSTEM


def subfolders(folder: Path) -> list[str]:
    """List the names of a folder's subfolders that may be data, links to folders included, sorted."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if not is_system(entry.name) and entry.is_dir())


def split_role(name: str) -> str | None:
    """Return the split that a folder's name stands for, such as train for `seg_train`, or None."""
    return next((role for role, words in _ROLES.items() if words.search(name.lower())), None)


def find_layout(folder: Path) -> Layout:
    """Find the splits of an image folder by the names of its folders.

    Raises:
        DataError: folders look like splits and cannot be used as such.
    """
    top = _unwrapped(folder, splits=False)
    notes = [] if top == folder else [f"read from {top.relative_to(folder)}/, the only folder there"]
    names = subfolders(top)
    nested = [name for name in names if subfolders(top / name)]
    training = [name for name in nested if split_role(name) == TRAIN]
    if not training:
        _refuse_splits(top, names, nested)
        return Layout(top, None, (*notes, *_same_inside(top, names, nested)))
    train = _one(top, training, TRAIN)
    tests = [name for name in names if split_role(name) == TEST]
    validations = [name for name in names if split_role(name) == VALIDATION]
    if not tests and not validations:
        _refuse_class_beside(top, train, [name for name in names if name not in nested])
    test = _one(top, tests or validations, TEST if tests else VALIDATION) if tests or validations else None
    if test is not None and not tests:
        notes.append(f"{test}/ is the test split, since there is no test/")
    unread = [name for name in names if name not in (train, test)]
    if unread:
        listed = ", ".join(f"{name}/" for name in unread)
        held = "; validation images are held out of the training images" if tests and validations else ""
        notes.append(f"not read, beside {train}/{'' if test is None else f' and {test}/'}: {listed}{held}")
    return Layout(
        _unwrapped(top / train, splits=True),
        None if test is None else _unwrapped(top / test, splits=True),
        tuple(notes),
    )


def _unwrapped(folder: Path, *, splits: bool) -> Path:
    """Descend to the first folder that holds more than one folder, such as `data/` of `pets/data/train/`.

    Args:
        folder: folder to begin with.
        splits: True if a folder inside may have the name of a split, as in `seg_train/seg_train/`.
    """
    for _ in range(_DEEPEST):
        names = subfolders(folder)
        if len(names) != 1 or (split_role(names[0]) and not splits) or not subfolders(folder / names[0]):
            break
        folder = folder / names[0]
    return folder


def _one(top: Path, names: Sequence[str], role: str) -> str:
    """Choose among several folders whose names stand for a split: the one whose whole name does."""
    plain = [name for name in names if _EXACT.fullmatch(name.lower())] if len(names) > 1 else list(names)
    if len(plain) == 1:
        return plain[0]
    listed = " and ".join(f"{name}/" for name in names)
    raise DataError(f"{listed} in {top} each look like the {role} split; keep one and move the others away.")


def _refuse_splits(top: Path, names: Sequence[str], nested: Sequence[str]) -> None:
    roles = {name: role for name in names if (role := split_role(name)) is not None}
    exact = [name for name in roles if _EXACT.fullmatch(name.lower())]
    all_splits = bool(names) and len(exact) == len(names)
    named_apart = len(roles) == len(names) and TRAIN in roles.values() and len(set(roles.values())) > 1
    exact_roles = {roles[name] for name in exact}
    trained = TRAIN in exact_roles and len(exact_roles) > 1
    untrained = any(name in nested and roles[name] != TRAIN for name in exact)
    if all_splits or named_apart or trained or untrained:
        raise DataError(
            f"{top} holds {', '.join(f'{name}/' for name in names)}, which look like splits, but no "
            f"train/ with class folders inside. {EXPECTED}"
        )
    if nested and len(nested) == len(names):
        inside = {split_role(name) for folder in names for name in subfolders(top / folder)}
        if inside >= {TRAIN, TEST} or inside >= {TRAIN, VALIDATION}:
            raise DataError(
                f"the class folders of {top} hold splits, such as "
                f"{names[0]}/{subfolders(top / names[0])[0]}/, which would be mixed. {EXPECTED}"
            )


def _refuse_class_beside(top: Path, train: str, others: Sequence[str]) -> None:
    if others:
        listed = ", ".join(f"{name}/" for name in others)
        raise DataError(
            f"{train}/ in {top} holds folders, as a training split does, but beside it there are {listed}, "
            f"which hold none, as classes do. Rename {train}/ if it is a class, else move the others away. "
            f"{EXPECTED}"
        )


def _same_inside(top: Path, names: Sequence[str], nested: Sequence[str]) -> list[str]:
    """Say where every class folder holds the same folders, which may be the classes of unknown splits."""
    if len(names) < 2 or len(nested) != len(names):
        return []
    inside = {tuple(subfolders(top / name)) for name in names}
    if len(inside) != 1:
        return []
    return [
        f"the classes are {', '.join(names)}; each holds the same folders, "
        f"{', '.join(f'{name}/' for name in inside.pop())}: if those are the classes, call the others "
        "train/ and test/"
    ]
