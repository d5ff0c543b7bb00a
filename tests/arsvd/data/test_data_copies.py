"""Images that are reached twice: copies, links, folders of systems. No two splits share one."""

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from arsvd.data import DataError, Dataset, load

SPLITS = ("train", "validation", "test")


def pixels(number: int) -> np.ndarray:
    return np.array([[number % 256, number // 256], [7, 90]], dtype=np.uint8)


def write(path: Path, number: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(number)).save(path)
    return path


def fill(folder: Path, count: int = 12, first: int = 0) -> Path:
    """Two classes of `count` different images each."""
    for label, name in enumerate(("cat", "dog")):
        for i in range(count):
            write(folder / name / f"{i:02}.png", first + 100 * label + i)
    return folder


def rows(data: Dataset) -> dict[str, list[bytes]]:
    return {name: [image.numpy().tobytes() for image in getattr(data, name).images] for name in SPLITS}


def assert_apart(data: Dataset) -> None:
    found = [row for name in SPLITS for row in rows(data)[name]]
    assert len(set(found)) == len(found)


def size(data: Dataset) -> int:
    return sum(len(getattr(data, name)) for name in SPLITS)


def said(data: Dataset) -> str:
    return "\n".join(data.notes)


@pytest.mark.parametrize(
    "name",
    [
        *(
            ".ipynb_checkpoints",
            ".thumbnails",
            "@eaDir",
            "__MACOSX",
            ".Trashes",
            "lost+found",
            "$RECYCLE.BIN",
        ),
        *("System Volume Information", "#recycle", "@Recycle"),
    ],
)
@pytest.mark.parametrize("where", ["", "cat", "cat/young"])
def test_folders_that_systems_leave_are_not_read(tmp_path: Path, name: str, where: str) -> None:
    fill(tmp_path)
    for i in range(8):
        write(tmp_path / where / name / f"{i:02}-checkpoint.png", i)
        write(tmp_path / where / name / "cat" / f"{i:02}.png", 500 + i)
    write(tmp_path / "cat" / "young" / "x.png", 99)
    data = load("imagefolder", path=tmp_path, validation=4)
    assert data.classes == ("cat", "dog")
    assert size(data) == 25
    assert_apart(data)
    assert "hidden or system files and folders" in said(data)


@pytest.mark.parametrize("file", ["._00.png", ".00.png"])
def test_hidden_files_are_counted(tmp_path: Path, file: str) -> None:
    fill(tmp_path)
    write(tmp_path / "cat" / file, 999)
    data = load("imagefolder", path=tmp_path, validation=4)
    assert size(data) == 24
    assert "left out: 1 hidden or system files and folders" in said(data)


def link(path: Path, target: Path | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


# name: what is added to a folder of 24 images, how many images are read then, and what is said
LINKS = {
    "a link to a file of the class": (lambda r: link(r / "cat/a.png", "00.png"), 24, "1 images equal others"),
    "a hard link": (lambda r: os.link(r / "cat/00.png", r / "cat/a.png"), 24, "1 images equal others"),
    "a copy": (lambda r: shutil.copy(r / "cat/00.png", r / "cat/a.png"), 24, "1 images equal others"),
    "the same pixels in another format": (
        lambda r: Image.fromarray(pixels(0)).save(r / "cat/a.bmp"),
        24,
        "1 images equal others of their class and are left out",
    ),
    "a circle": (lambda r: link(r / "cat/again", "."), 24, "1 links to folders of the data set itself"),
    "a link to the whole": (lambda r: link(r / "cat/all", ".."), 24, "1 links to folders of the data set"),
    "a link above": (lambda r: link(r / "cat/up", "../.."), 24, "1 links to folders of the data set itself"),
    "a link to another class": (lambda r: link(r / "cat/x", "../dog"), 24, "1 links to folders of the data"),
    "two links to one folder outside": (
        lambda r: [
            fill(r.parent / "out", first=0),
            link(r / "dog/p", r.parent / "out/dog"),
            link(r / "dog/q", "p"),
        ],
        24,
        "1 links to folders that were read already",
    ),
    "a link to a file of another class": (
        lambda r: link(r / "cat/x.png", "../dog/00.png"),
        23,
        "2 images equal others of another class and are left out: cat/x.png = dog/00.png",
    ),
    "a named pipe": (lambda r: os.mkfifo(r / "cat/x.png"), 24, "1 pipes, sockets or devices"),
}


@pytest.mark.parametrize(("add", "count", "says"), LINKS.values(), ids=LINKS)
def test_nothing_is_read_twice(tmp_path: Path, add, count: int, says: str) -> None:  # type: ignore[no-untyped-def]
    root = fill(tmp_path / "pets")
    add(root)
    data = load("imagefolder", path=root, validation=4)
    assert size(data) == count
    assert_apart(data)
    assert says in said(data)


def test_a_linked_folder_outside_is_read(tmp_path: Path) -> None:
    fill(tmp_path / "store")
    (tmp_path / "pets").mkdir()
    link(tmp_path / "pets/cat", tmp_path / "store/cat")
    link(tmp_path / "pets/dog/more", tmp_path / "store/dog")
    assert size(load("imagefolder", path=tmp_path / "pets", validation=4)) == 24


@pytest.mark.parametrize("target", ["cat", "cat/young", "."])
def test_a_class_that_is_another_one_is_refused(tmp_path: Path, target: str) -> None:
    fill(tmp_path)
    write(tmp_path / "cat/young/x.png", 99)
    link(tmp_path / "wolf", target)
    with pytest.raises(DataError, match=r"lead to the same images, in .*Remove one of them"):
        load("imagefolder", path=tmp_path, validation=4)


def test_a_test_folder_that_is_the_training_folder_is_refused(tmp_path: Path) -> None:
    fill(tmp_path / "train")
    link(tmp_path / "test", "train")
    with pytest.raises(DataError, match="lead to the same images"):
        load("imagefolder", path=tmp_path, validation=4)


def test_training_images_that_the_test_folder_repeats_are_left_out_of_training(tmp_path: Path) -> None:
    fill(tmp_path / "train")
    fill(tmp_path / "test", count=5)
    write(tmp_path / "test/cat/new.png", 999)
    data = load("imagefolder", path=tmp_path, validation=4)
    assert (len(data.test), size(data)) == (11, 25)
    assert_apart(data)
    assert "10 training images are in the test folder too and are left out of training" in said(data)


def test_equal_images_of_two_classes_are_named(tmp_path: Path) -> None:
    fill(tmp_path / "train")
    write(tmp_path / "train/dog/same.png", 3)
    fill(tmp_path / "test", first=1000)
    write(tmp_path / "test/dog/other.png", 5)
    data = load("imagefolder", path=tmp_path, validation=4)
    assert size(data) == 46
    assert (
        "4 images equal others of another class and are left out: "
        "train/cat/03.png = train/dog/same.png, train/cat/05.png = test/dog/other.png" in said(data)
    )


@pytest.mark.parametrize("layout", ["classes", "splits"])
def test_images_that_are_all_equal_are_refused(tmp_path: Path, layout: str) -> None:
    for place in ("",) if layout == "classes" else ("train", "test"):
        for i in range(12):
            write(tmp_path / place / "cat" / f"{i}.png", 1)
            write(tmp_path / place / "dog" / f"{i}.png", 1)
    with pytest.raises(DataError, match=r"all .* images of .* are equal: there is nothing to learn"):
        load("imagefolder", path=tmp_path, validation=4)


def test_images_of_one_value_each_are_refused(tmp_path: Path) -> None:
    for i in range(24):
        path = tmp_path / ("cat" if i % 2 else "dog") / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("L", (4, 4), i).save(path)
    with pytest.raises(DataError, match="every training image has one value in all its pixels"):
        load("imagefolder", path=tmp_path, validation=4)


def test_a_class_of_equal_images_is_refused(tmp_path: Path) -> None:
    fill(tmp_path)
    for i in range(12):
        write(tmp_path / "eel" / f"{i}.png", 999)
    with pytest.raises(DataError, match=r"class 'eel' has 1 image to divide .*11 images equal others"):
        load("imagefolder", path=tmp_path, validation=4)


PLACES = ("cat", "dog", "cat/sub", "dog/.ipynb_checkpoints", "cat/@eaDir")


@given(
    extras=st.lists(
        st.tuples(
            st.sampled_from(PLACES),
            st.sampled_from(("copy", "hard link", "link", "folder link")),
            st.sampled_from(("cat", "dog")),
            st.integers(0, 7),
        ),
        max_size=8,
    ),
    explicit=st.booleans(),
    shared=st.integers(0, 4),
    seed=st.integers(0, 3),
)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_two_splits_share_an_image(
    extras: list[tuple[str, str, str, int]], explicit: bool, shared: int, seed: int
) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        top = fill(root / "train" if explicit else root, count=12)
        if explicit:
            fill(root / "test", count=6, first=20 - shared)  # 12 to 20 are in no class of train
            write(root / "test/cat/own.png", 700)
            write(root / "test/dog/own.png", 701)
        for number, (place, kind, name, index) in enumerate(extras):
            (top / place).mkdir(exist_ok=True, parents=True)
            source, path = top / name / f"{index:02}.png", top / place / f"extra{number}.png"
            if kind == "copy":
                shutil.copy(source, path)
            elif kind == "hard link":
                os.link(source, path)
            else:
                path.symlink_to(source if kind == "link" else top / name)
        data = load("imagefolder", path=root, validation=4, seed=seed)
        assert_apart(data)
        labels = {
            row: int(label)
            for split in SPLITS
            for row, label in zip(rows(data)[split], getattr(data, split).labels, strict=True)
        }
        for number in range(12):
            for label in (0, 1):
                row = pixels(100 * label + number).tobytes()
                assert labels.get(row, label) == label
