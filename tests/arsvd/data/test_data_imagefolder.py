"""Image folders of every layout and kind of image, written with Pillow."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from arsvd.data import DataError, load


def picture(seed: int, size: tuple[int, int] = (8, 8), mode: str = "RGB") -> Image.Image:
    """Random pixels; `size` is (height, width)."""
    generator = np.random.default_rng(seed)
    if mode == "I;16":
        return Image.fromarray(generator.integers(0, 65536, size).astype(np.uint16))
    colour = Image.fromarray(generator.integers(0, 256, (*size, 3), dtype=np.uint8))
    return colour if mode == "RGB" else colour.convert(mode)


def fill(
    folder: Path,
    counts: dict[str, int],
    size: tuple[int, int] = (8, 8),
    mode: str = "RGB",
    suffix: str = "png",
    first: int = 0,
) -> Path:
    """Class folders of pictures that are all different; another `first` gives others still."""
    for label, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            picture(first + 1000 * label + i, size, mode).save(folder / name / f"{i:03}.{suffix}")
    return folder


def test_class_folders_alone_give_a_fixed_stratified_test_split(tmp_path: Path) -> None:
    fill(tmp_path, {"cat": 20, "dog": 10})
    data = load("imagefolder", path=tmp_path, validation=6)
    assert data.name == "imagefolder"
    assert data.classes == ("cat", "dog")
    assert data.shape == (3, 8, 8)
    assert torch.bincount(data.test.labels).tolist() == [4, 2]
    assert torch.bincount(data.validation.labels).tolist() == [4, 2]
    assert torch.bincount(data.train.labels).tolist() == [12, 6]
    parts = [data.train.images, data.validation.images, data.test.images]
    rows = [image.numpy().tobytes() for part in parts for image in part]
    expected = [np.asarray(picture(1000 * label + i)) for label, n in ((0, 20), (1, 10)) for i in range(n)]
    assert sorted(rows) == sorted(image.transpose(2, 0, 1).tobytes() for image in expected)


def test_the_test_split_follows_its_share_but_not_the_seed(tmp_path: Path) -> None:
    fill(tmp_path, {"cat": 20, "dog": 10})
    first, second = (load("imagefolder", path=tmp_path, validation=6, seed=seed) for seed in (0, 1))
    assert torch.equal(first.test.images, second.test.images)
    assert first.hash != second.hash
    assert len(load("imagefolder", path=tmp_path, validation=6, test=0.5).test) == 15


@pytest.mark.parametrize("name", ["test", "val"])
def test_split_folders(tmp_path: Path, name: str) -> None:
    fill(tmp_path / "train", {"cat": 6, "dog": 6})
    fill(tmp_path / name, {"cat": 2, "dog": 3}, first=100)
    data = load("imagefolder", path=str(tmp_path), validation=0.5)
    assert (len(data.train), len(data.validation), len(data.test)) == (6, 6, 5)
    assert data.test.labels.tolist() == [0, 0, 1, 1, 1]
    assert data.test.images[2].numpy().tobytes() == np.asarray(picture(1100)).transpose(2, 0, 1).tobytes()
    assert data.test.images.untyped_storage().nbytes() == data.test.images.numel()


def test_test_comes_before_val(tmp_path: Path) -> None:
    fill(tmp_path / "train", {"cat": 6, "dog": 6})
    fill(tmp_path / "test", {"cat": 2, "dog": 3}, first=100)
    fill(tmp_path / "val", {"cat": 1, "dog": 1}, first=200)
    assert len(load("imagefolder", path=tmp_path, validation=4).test) == 5


def test_a_train_folder_alone_gives_a_held_out_test_split(tmp_path: Path) -> None:
    fill(tmp_path / "train", {"cat": 10, "dog": 10})
    data = load("imagefolder", path=tmp_path, validation=4)
    assert (len(data.train), len(data.validation), len(data.test)) == (12, 4, 4)


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    fill(tmp_path, {"bus": 10, "train": 10})
    assert load("imagefolder", path=tmp_path, validation=4).classes == ("bus", "train")


def test_hidden_files_and_folders_are_ignored(tmp_path: Path) -> None:
    fill(tmp_path, {"cat": 5, "dog": 5})
    (tmp_path / ".ipynb_checkpoints").mkdir()
    (tmp_path / "cat" / "._000.png").write_bytes(b"resource fork")
    (tmp_path / "cat" / "notes.txt").write_text("not an image")
    data = load("imagefolder", path=tmp_path, validation=2)
    assert data.classes == ("cat", "dog")
    assert len(data.train) + len(data.validation) + len(data.test) == 10


def test_a_home_directory_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    fill(tmp_path / "pets", {"cat": 5, "dog": 5})
    assert load("imagefolder", path="~/pets", validation=2).classes == ("cat", "dog")


SIZES: list[tuple[str, list[tuple[int, int]], object, tuple[int, int]]] = [
    ("a common small size is kept", [(8, 8), (8, 8)], None, (8, 8)),
    ("neither side need be equal", [(20, 64), (20, 64)], None, (20, 64)),
    ("mixed sizes become 32×32", [(8, 8), (9, 8)], None, (32, 32)),
    ("a common large size becomes 32×32", [(65, 20), (65, 20)], None, (32, 32)),
    ("small and large become 32×32", [(48, 48), (100, 90)], None, (32, 32)),
    ("one number is a square", [(8, 8), (9, 8)], 12, (12, 12)),
    ("two numbers are height and width", [(80, 80), (9, 8)], (10, 14), (10, 14)),
    ("a list, as YAML gives", [(8, 8), (8, 8)], [6, 7], (6, 7)),
]


@pytest.mark.parametrize(("sizes", "size", "expected"), [s[1:] for s in SIZES], ids=[s[0] for s in SIZES])
def test_sizes(tmp_path: Path, sizes: list[tuple[int, int]], size: object, expected: tuple[int, int]) -> None:
    for i, (name, shape) in enumerate(zip(("a", "b"), sizes, strict=True)):
        fill(tmp_path / "part", {name: 4}, size=shape, first=100 * i)
    data = load("imagefolder", path=tmp_path / "part", validation=2, size=size)  # type: ignore[arg-type]
    assert data.shape == (3, *expected)


def test_a_flat_colour_survives_resizing_and_jpeg(tmp_path: Path) -> None:
    for name, colour in (("a", (200, 100, 50)), ("b", (10, 20, 240))):
        (tmp_path / name).mkdir()
        for i in range(4):
            image = Image.new("RGB", (300, 200), colour)
            image.paste((0, 0, 0), (0, 0, 20, 20 + 20 * i))
            image.save(tmp_path / name / f"{i}.jpg", quality=95)
    data = load("imagefolder", path=tmp_path, validation=2)
    means = data.test.images[data.test.labels == 0][..., 16:].float().mean(dim=(0, 2, 3))
    torch.testing.assert_close(means, torch.tensor([200.0, 100.0, 50.0]), atol=3, rtol=0)


@pytest.mark.parametrize("mode", ["L", "1", "LA", "I;16"])
def test_greyscale_of_every_kind_has_one_channel(tmp_path: Path, mode: str) -> None:
    fill(tmp_path, {"a": 4, "b": 4}, mode=mode)
    data = load("imagefolder", path=tmp_path, validation=2)
    assert data.shape == (1, 8, 8)
    assert not data.colour


@pytest.mark.parametrize("mode", ["RGBA", "P", "CMYK"])
def test_colour_of_every_kind_has_three_channels(tmp_path: Path, mode: str) -> None:
    fill(tmp_path, {"a": 4, "b": 4}, mode=mode, suffix="tif" if mode == "CMYK" else "png")
    assert load("imagefolder", path=tmp_path, validation=2).shape == (3, 8, 8)


def test_grey_among_colour_fills_three_channels(tmp_path: Path) -> None:
    fill(tmp_path, {"a": 4}, mode="L")
    fill(tmp_path, {"b": 4}, mode="RGB")
    data = load("imagefolder", path=tmp_path, validation=2)
    grey = data.train.images[data.train.labels == 0]
    assert data.colour
    assert torch.equal(grey[:, 0], grey[:, 1])
    assert torch.equal(grey[:, 0], grey[:, 2])


def test_grey_training_and_colour_test_images_agree_in_channels(tmp_path: Path) -> None:
    fill(tmp_path / "train", {"a": 4, "b": 4}, mode="L")
    fill(tmp_path / "test", {"a": 2, "b": 2}, size=(9, 9))
    data = load("imagefolder", path=tmp_path, validation=2)
    assert data.train.images.shape[1:] == data.test.images.shape[1:] == (3, 32, 32)


def test_more_images_than_one_chunk_keep_their_order(tmp_path: Path) -> None:
    (tmp_path / "train" / "a").mkdir(parents=True)
    (tmp_path / "train" / "b").mkdir()
    for i in range(600):
        numbered = Image.fromarray(np.array([[i % 250, i // 250], [0, 0]], dtype=np.uint8))
        numbered.save(tmp_path / "train" / "ab"[i % 2] / f"{i:04}.png")
    shutil.copytree(tmp_path / "train", tmp_path / "test")
    for path in (tmp_path / "train").glob("*/*.png"):
        Image.open(path).point(lambda level: level + 1).save(path)
    data = load("imagefolder", path=tmp_path, validation=100)
    expected = [i % 250 for i in (*range(0, 600, 2), *range(1, 600, 2))]
    assert data.test.images[:, 0, 0, 0].tolist() == expected


def test_broken_images_are_named_up_to_five(tmp_path: Path) -> None:
    fill(tmp_path, {"a": 8, "b": 8})
    whole = (tmp_path / "a" / "000.png").read_bytes()
    for i in range(6):
        (tmp_path / "a" / f"{i:03}.png").write_bytes(whole[: 60 + i])
    (tmp_path / "b" / "007.png").write_text("text")
    with pytest.raises(DataError, match="7 of 16 images cannot be decoded") as caught:
        load("imagefolder", path=tmp_path, validation=4)
    lines = str(caught.value).splitlines()
    assert [line.split(":")[0].strip() for line in lines[1:6]] == [
        str(tmp_path / "a" / f"{i:03}.png") for i in range(5)
    ]
    assert lines[6] == "  and 2 more"
    assert lines[7] == "Repair or remove these files."


@pytest.mark.parametrize("kind", ["empty", "text", "truncated jpeg", "floats"])
def test_one_broken_image_is_named_with_its_cause(tmp_path: Path, kind: str) -> None:
    fill(tmp_path, {"a": 4, "b": 4})
    suffix = {"truncated jpeg": "jpg", "floats": "tiff"}.get(kind, "png")
    broken = tmp_path / "b" / f"broken.{suffix}"
    if kind == "truncated jpeg":
        picture(0, (64, 64)).save(broken)
        broken.write_bytes(broken.read_bytes()[:-500])
    elif kind == "floats":
        Image.fromarray(np.zeros((8, 8), dtype=np.float32)).save(broken)
    else:
        broken.write_bytes(b"" if kind == "empty" else b"just text")
    causes = {"truncated jpeg": "truncated", "floats": "floating-point pixels"}
    cause = causes.get(kind, "cannot identify image file")
    with pytest.raises(DataError, match=f"1 of 9 images cannot be decoded:\n  {broken}: .*{cause}"):
        load("imagefolder", path=tmp_path, validation=4)


class TestRefusedFolders:
    def test_no_path(self) -> None:
        for path in (None, ""):
            with pytest.raises(DataError, match=r"imagefolder needs a directory: dataset\.path=DIR"):
                load("imagefolder", path=path, validation=4)

    def test_a_path_that_does_not_exist(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=f"{tmp_path}/none does not exist. Give another dataset.path"):
            load("imagefolder", path=tmp_path / "none", validation=4)

    def test_a_file(self, tmp_path: Path) -> None:
        picture(0).save(tmp_path / "a.png")
        with pytest.raises(DataError, match="is a file, not a directory"):
            load("imagefolder", path=tmp_path / "a.png", validation=4)

    def test_no_class_folders(self, tmp_path: Path) -> None:
        picture(0).save(tmp_path / "a.png")
        with pytest.raises(DataError, match="has no class folders; at least two classes are needed"):
            load("imagefolder", path=tmp_path, validation=4)

    def test_one_class(self, tmp_path: Path) -> None:
        fill(tmp_path, {"cat": 4})
        with pytest.raises(DataError, match="has only one class folder, cat/; at least two classes"):
            load("imagefolder", path=tmp_path, validation=4)

    def test_one_class_inside_train(self, tmp_path: Path) -> None:
        fill(tmp_path / "train", {"cat": 4})
        with pytest.raises(DataError, match="train has only one class folder, cat/"):
            load("imagefolder", path=tmp_path, validation=4)

    def test_empty_classes(self, tmp_path: Path) -> None:
        fill(tmp_path, {"ant": 4, "bee": 0, "cat": 4, "dog": 0})
        (tmp_path / "dog" / "a.txt").write_text("")
        with pytest.raises(DataError, match=r"no images in the class folders bee, dog of .*\.jpg.*or remove"):
            load("imagefolder", path=tmp_path, validation=4)

    def test_an_empty_class_in_the_test_split(self, tmp_path: Path) -> None:
        fill(tmp_path / "train", {"ant": 4, "bee": 4})
        fill(tmp_path / "test", {"ant": 4, "bee": 0})
        with pytest.raises(DataError, match=f"no images in the class folder bee of {tmp_path}/test"):
            load("imagefolder", path=tmp_path, validation=4)

    def test_other_classes_in_the_test_split(self, tmp_path: Path) -> None:
        fill(tmp_path / "train", {"ant": 4, "bee": 4, "cat": 4})
        fill(tmp_path / "test", {"ant": 4, "Bee": 4, "cat": 4})
        with pytest.raises(DataError, match=r"differ; only in .*train: bee; only in .*test: Bee\. Give both"):
            load("imagefolder", path=tmp_path, validation=4)

    def test_split_folders_without_a_training_split(self, tmp_path: Path) -> None:
        for name in ("test", "val"):
            fill(tmp_path / name, {"ant": 4, "bee": 4})
        with pytest.raises(DataError, match="which look like splits, but no train/ with class folders"):
            load("imagefolder", path=tmp_path, validation=4)

    def test_split_folders_with_no_classes(self, tmp_path: Path) -> None:
        fill(tmp_path, {"train": 4, "test": 4})
        with pytest.raises(DataError, match="holds test/, train/, which look like splits"):
            load("imagefolder", path=tmp_path, validation=4)

    @pytest.mark.parametrize("size", [0, -3, True, 2.5, "32", (32,), (32, 0), (3, 32, 32), (8, "8")])
    def test_invalid_sizes_are_refused(self, tmp_path: Path, size: object) -> None:
        fill(tmp_path, {"ant": 4, "bee": 4})
        with pytest.raises(DataError, match=r"dataset\.size must be a number of pixels or \[height, width\]"):
            load("imagefolder", path=tmp_path, validation=4, size=size)  # type: ignore[arg-type]

    @pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 0.01])
    def test_shares_that_leave_no_test_split(self, tmp_path: Path, share: float) -> None:
        fill(tmp_path, {"ant": 4, "bee": 4})
        with pytest.raises(DataError, match=f"test={share} is "):
            load("imagefolder", path=tmp_path, validation=2, test=share)

    @pytest.mark.parametrize(
        ("count", "message"),
        [
            (1, "class 'bee' has 1 image to divide for test; every class needs at least 2"),
            (2, "class 'bee' has 1 image to divide for validation; every class needs at least 2"),
        ],
    )
    def test_a_class_of_too_few_images(self, tmp_path: Path, count: int, message: str) -> None:
        fill(tmp_path, {"ant": 9, "bee": count})
        with pytest.raises(DataError, match=message):
            load("imagefolder", path=tmp_path, validation=2)

    def test_a_class_of_three_images_works(self, tmp_path: Path) -> None:
        fill(tmp_path, {"ant": 9, "bee": 3})
        data = load("imagefolder", path=tmp_path, validation=2)
        parts = (data.train, data.validation, data.test)
        assert [int((part.labels == 1).sum()) for part in parts] == [1, 1, 1]


def test_a_size_that_fits_no_memory_is_refused_before_anything_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for label in ("cats", "dogs"):
        (tmp_path / label).mkdir()
        for number in range(10):
            (tmp_path / label / f"{number}.png").write_bytes(b"no image")
    monkeypatch.setattr("arsvd.data.imagefolder.free_memory", lambda: 2 * 20 * 999 * 1000)
    with pytest.raises(DataError, match=r"20 images of 1000×1000 pixels take 0\.0 GB at least, and 0\.0 GB"):
        load("imagefolder", path=tmp_path, size=1000, validation=2)
    with pytest.raises(DataError, match="images cannot be decoded"):
        load("imagefolder", path=tmp_path, size=(999, 1000), validation=2)
