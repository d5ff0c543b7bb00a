"""Splits by whatever name: taken or refused, never classes called train and test."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from arsvd.data import DataError, load


def fill(folder: Path, first: int, count: int = 6, classes: tuple[str, ...] = ("ant", "bee")) -> None:
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            levels = np.array([[first, label], [i, 9]], dtype=np.uint8)
            Image.fromarray(levels).save(folder / name / f"{i}.png")


TAKEN = [
    ("train", "test"),
    ("train", "valid"),
    ("train", "validation"),
    ("train", "val"),
    ("training_set", "test_set"),
    ("seg_train/seg_train", "seg_test/seg_test"),
    ("Training", "Testing"),
    ("TRAIN", "TEST"),
    ("train_images", "val_images"),
    ("trainset", "testset"),
    ("train2017", "val2017"),
    ("Train Data", "Test Data"),
    ("dataset/train", "dataset/test"),
    ("a/b/train", "a/b/test"),
    ("pets_train", "pets_test"),
    ("imagesTrain", "imagesTest"),
]


@pytest.mark.parametrize(("train", "test"), TAKEN)
def test_splits_are_taken_by_many_names(tmp_path: Path, train: str, test: str) -> None:
    fill(tmp_path / train, 1)
    fill(tmp_path / test, 2)
    data = load("imagefolder", path=tmp_path, validation=4)
    assert data.classes == ("ant", "bee")
    assert set(data.test.images[:, 0, 0, 0].tolist()) == {2}
    assert set(data.train.images[:, 0, 0, 0].tolist()) == {1}


def test_unread_folders_are_reported(tmp_path: Path) -> None:
    for number, name in enumerate(("train", "val", "test", "seg_pred")):
        fill(tmp_path / "data" / name, number)
    (tmp_path / "data" / "__MACOSX" / "train").mkdir(parents=True)
    data = load("imagefolder", path=tmp_path, validation=4)
    assert set(data.test.images[:, 0, 0, 0].tolist()) == {2}
    assert "read from data/, the only folder there" in data.notes
    assert (
        "not read, beside train/ and test/: seg_pred/, val/; validation images are held out of the training "
        "images" in data.notes
    )


def test_a_validation_folder_used_as_the_test_split_is_reported(tmp_path: Path) -> None:
    fill(tmp_path / "train", 1)
    fill(tmp_path / "valid", 2)
    data = load("imagefolder", path=tmp_path, validation=4)
    assert "valid/ is the test split, since there is no test/" in data.notes


def test_a_folder_of_class_folders_within_one_is_found(tmp_path: Path) -> None:
    fill(tmp_path / "archive" / "images", 1, count=12)
    assert load("imagefolder", path=tmp_path, validation=4).classes == ("ant", "bee")


# name: folders with classes inside, folders with images only, what is said
REFUSED: dict[str, tuple[tuple[str, ...], tuple[str, ...], str]] = {
    "images only": ((), ("train", "test"), "look like splits"),
    "images only, other names": ((), ("training_set", "test_set"), "look like splits"),
    "images only, longer names": ((), ("seg_train", "seg_test"), "look like splits"),
    "images only, and a third folder": ((), ("train", "test", "bus"), "look like splits"),
    "no training split": (("test", "val"), (), "look like splits"),
    "no training split, other names": (("Test_Set", "dev"), (), "look like splits"),
    "two training splits": (("train", "Training", "test"), (), "Training/ and train/ .* keep one"),
    "two test splits": (("train", "test", "Test-Set"), (), "each look like the test split"),
    "a class called train with folders": (("train",), ("bus", "car"), "Rename train/ if it is a class"),
    "a test split without classes": (("train",), ("test",), "test has no class folders"),
}


@pytest.mark.parametrize(("nested", "flat", "says"), REFUSED.values(), ids=REFUSED)
def test_folders_that_only_look_like_splits_are_refused(
    tmp_path: Path, nested: tuple[str, ...], flat: tuple[str, ...], says: str
) -> None:
    for number, name in enumerate(nested):
        fill(tmp_path / name, number)
    if flat:
        fill(tmp_path, 50, classes=flat)
    with pytest.raises(DataError, match=says):
        load("imagefolder", path=tmp_path, validation=4)


def test_splits_inside_classes_are_refused(tmp_path: Path) -> None:
    fill(tmp_path / "cat", 1, classes=("train", "test"))
    fill(tmp_path / "dog", 2, classes=("train", "test"))
    with pytest.raises(DataError, match=r"the class folders of .* hold splits, such as cat/test/"):
        load("imagefolder", path=tmp_path, validation=4)


def test_classes_that_hold_the_same_folders_are_pointed_out(tmp_path: Path) -> None:
    fill(tmp_path / "learn", 1)
    fill(tmp_path / "check", 2)
    data = load("imagefolder", path=tmp_path, validation=4)
    assert data.classes == ("check", "learn")
    assert any("each holds the same folders, ant/, bee/: if those are the classes" in n for n in data.notes)


@pytest.mark.parametrize("names", [("bus", "train"), ("bullet_train", "tram"), ("contest", "protest")])
def test_classes_may_have_such_words_in_their_names(tmp_path: Path, names: tuple[str, str]) -> None:
    fill(tmp_path, 1, count=12, classes=names)
    assert load("imagefolder", path=tmp_path, validation=4).classes == tuple(sorted(names))
