"""The data set itself: its types, its hash, its normalisation, its numpy form."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch

from arsvd.data import DataError, Dataset, Split
from arsvd.data.dataset import channel_statistics, describe

CLASSES = ("a", "b")


def make_split(count: int, seed: int, shape: tuple[int, int, int] = (3, 4, 5)) -> Split:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, *shape), generator=generator, dtype=torch.uint8)
    return Split(images, torch.arange(count) % 2)


def make_dataset(**changed: Split) -> Dataset:
    splits = {"train": make_split(8, 0), "validation": make_split(4, 1), "test": make_split(6, 2)} | changed
    return describe("made", CLASSES, **splits)


def changed_pixel(split: Split, index: int) -> Split:
    images = split.images.clone()
    images.view(-1)[index] += 1
    return Split(images, split.labels)


def changed_label(split: Split, index: int) -> Split:
    labels = split.labels.clone()
    labels[index] = 1 - labels[index]
    return Split(split.images, labels)


def test_properties_of_a_colour_data_set() -> None:
    data = make_dataset()
    assert data.shape == (3, 4, 5)
    assert data.features == 60
    assert data.colour
    assert len(data.train) == 8


def test_one_channel_is_not_colour() -> None:
    grey = {name: make_split(4, 0, (1, 2, 2)) for name in ("train", "validation", "test")}
    assert not make_dataset(**grey).colour


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.zeros(2, 1, 2, 2), torch.zeros(2, dtype=torch.int64), "images must be uint8 .*float32"),
        (torch.zeros(2, 4, dtype=torch.uint8), torch.zeros(2).long(), r"images must be .*\(2, 4\)"),
        (torch.zeros(2, 1, 2, 2, dtype=torch.uint8), torch.zeros(2), "labels must be int64 .*float32"),
        (torch.zeros(2, 1, 2, 2, dtype=torch.uint8), torch.zeros(3).long(), "2 images but 3 labels"),
    ],
    ids=["float images", "flat images", "float labels", "unequal counts"],
)
def test_split_refuses_other_tensors(images: torch.Tensor, labels: torch.Tensor, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Split(images, labels)


@pytest.mark.parametrize("name", ["train", "validation", "test"])
@pytest.mark.parametrize("change", [changed_pixel, changed_label])
@pytest.mark.parametrize("index", [0, 3])
def test_hash_changes_with_one_value(name: str, change: object, index: int) -> None:
    data = make_dataset()
    other = make_dataset(**{name: change(getattr(data, name), index)})  # type: ignore[operator]
    assert other.hash != data.hash


def test_hash_changes_with_class_names_and_sample_order() -> None:
    data = make_dataset()
    renamed = describe("made", ("a", "c"), data.train, data.validation, data.test)
    assert renamed.hash != data.hash
    assert make_dataset(train=data.train.take(np.arange(8)[::-1].copy())).hash != data.hash


def test_hash_changes_when_a_sample_moves_to_the_next_split() -> None:
    whole = make_split(8, 0)
    first = make_dataset(train=whole.take(np.arange(4)), validation=whole.take(np.arange(4, 8)))
    second = make_dataset(train=whole.take(np.arange(5)), validation=whole.take(np.arange(5, 8)))
    assert first.hash != second.hash


def test_hash_ignores_name_and_memory_layout() -> None:
    data = make_dataset()
    strided = data.train.images.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)
    assert not strided.is_contiguous()
    again = describe("other", CLASSES, Split(strided, data.train.labels), data.validation, data.test)
    assert again.hash == data.hash
    assert len(data.hash) == 64


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 5, 4)], ids=["grey", "colour"])
def test_normalisation_is_that_of_torch_on_the_training_split(shape: tuple[int, int, int]) -> None:
    counts = {"train": 50, "validation": 9, "test": 7}
    splits = {name: make_split(count, count, shape) for name, count in counts.items()}
    data = make_dataset(**splits)
    pixels = data.train.images.double() / 255
    expected = torch.std_mean(pixels, dim=(0, 2, 3), correction=0)
    torch.testing.assert_close(torch.tensor(data.std).double(), expected[0], rtol=1e-6, atol=0)
    torch.testing.assert_close(torch.tensor(data.mean).double(), expected[1], rtol=1e-6, atol=0)
    assert len(data.mean) == shape[0]


@pytest.mark.parametrize("value", range(0, 256, 15))
def test_a_constant_channel_can_be_divided_by_its_deviation(value: int) -> None:
    mean, std = channel_statistics(torch.full((7, 1, 3, 3), value, dtype=torch.uint8))
    assert mean == pytest.approx((value / 255,))
    assert std == (1.0,)


def test_a_single_odd_pixel_is_not_constant() -> None:
    images = torch.zeros(1000, 1, 10, 10, dtype=torch.uint8)
    images[0, 0, 0, 0] = 1
    assert channel_statistics(images)[1][0] == pytest.approx(1 / 255 / np.sqrt(100_000), rel=1e-3)


def test_numpy_round_trip_of_read_only_arrays_neither_copies_nor_warns() -> None:
    data = make_dataset()
    values = data.to_numpy()
    for value in values.values():
        if isinstance(value, np.ndarray):
            value.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = Dataset.from_numpy(values)
    for name in ("train", "validation", "test"):
        before, after = getattr(data, name), getattr(again, name)
        assert after.images.data_ptr() == before.images.data_ptr()
        assert after.labels.data_ptr() == before.labels.data_ptr()
        assert torch.equal(after.images, before.images)
    assert (again.name, again.classes, again.mean, again.std, again.hash) == (
        data.name,
        data.classes,
        data.mean,
        data.std,
        data.hash,
    )


def test_numpy_form_holds_arrays_and_plain_values_only() -> None:
    values = make_dataset().to_numpy()
    assert sorted(values) == sorted(
        [f"{split}_{kind}" for split in ("train", "validation", "test") for kind in ("images", "labels")]
        + ["name", "classes", "mean", "std", "hash"]
    )
    assert {type(value) for value in values.values()} == {np.ndarray, str, tuple}


def test_to_a_device_moves_every_split_and_nothing_else() -> None:
    data = make_dataset()
    moved = data.to("meta")
    for name in ("train", "validation", "test"):
        assert getattr(moved, name).images.device.type == "meta"
        assert getattr(moved, name).labels.device.type == "meta"
        assert getattr(data.to("cpu"), name).images is getattr(data, name).images
    assert (moved.hash, moved.mean, moved.classes) == (data.hash, data.mean, data.classes)


def test_import_is_lean() -> None:
    code = (
        "import sys, arsvd.data; "
        "print([name for name in ('torchvision', 'sklearn', 'PIL', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
