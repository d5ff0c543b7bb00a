"""The real digits, and `load` and `fetch` by name."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from arsvd.data import NAMES, DataError, Dataset, data_root, fetch, load


def rows(images: torch.Tensor) -> list[bytes]:
    return [image.numpy().tobytes() for image in images]


def test_digits_shapes_and_counts() -> None:
    data = load("digits", validation=200)
    assert data.name == "digits"
    assert data.classes == tuple("0123456789")
    assert data.shape == (1, 8, 8)
    assert (len(data.train), len(data.validation), len(data.test)) == (1238, 200, 359)
    assert not data.colour


def test_digits_pixels_are_those_of_scikit_learn_scaled_to_bytes() -> None:
    raw = load_digits()
    data = load("digits", validation=0.2)
    images = torch.cat([data.train.images, data.validation.images, data.test.images])
    labels = torch.cat([data.train.labels, data.validation.labels, data.test.labels])
    expected = np.rint(raw.images * 255 / 16).astype(np.uint8)
    assert sorted(zip(rows(images), labels.tolist(), strict=True)) == sorted(
        zip((image.tobytes() for image in expected), raw.target.tolist(), strict=True)
    )
    assert int(images.min()) == 0
    assert int(images.max()) == 255


def test_the_test_split_does_not_move_with_validation() -> None:
    tests = [
        load("digits", validation=amount, seed=seed).test
        for amount, seed in ((100, 0), (0.5, 0), (100, 1), (100, 1797))
    ]
    for other in tests[1:]:
        assert torch.equal(other.images, tests[0].images)
        assert torch.equal(other.labels, tests[0].labels)
    counts = torch.bincount(tests[0].labels)
    assert int(counts.max() - counts.min()) <= 2


def test_hash_follows_the_split_seed_and_size_only() -> None:
    base = load("digits", validation=100, seed=0)
    assert load("digits", validation=100, seed=0).hash == base.hash
    assert load("digits", validation=100, seed=1).hash != base.hash
    assert load("digits", validation=101, seed=0).hash != base.hash


def test_statistics_are_of_the_training_split_after_validation_is_taken_out() -> None:
    data = load("digits", validation=0.5, seed=3)
    pixels = data.train.images.double() / 255
    assert data.mean[0] == pytest.approx(float(pixels.mean()), rel=1e-12)
    assert data.std[0] == pytest.approx(float(pixels.std(correction=0)), rel=1e-12)


@pytest.mark.parametrize(
    ("name", "guess"),
    [
        ("mnits", "did you mean 'mnist'"),
        ("CIFAR-10", "did you mean 'cifar10'"),
        ("zzz", r"'zzz'\. The data sets"),
    ],
)
def test_an_unknown_name_lists_all_and_the_nearest(name: str, guess: str) -> None:
    for call in (lambda: load(name, validation=5), lambda: fetch(name)):
        with pytest.raises(DataError, match=guess) as caught:
            call()
        assert ", ".join(NAMES) in str(caught.value)


@pytest.mark.parametrize("options", [{"path": "somewhere"}, {"size": 28}])
def test_options_of_image_folders_are_refused_elsewhere(options: dict[str, object]) -> None:
    with pytest.raises(DataError, match=r"dataset\.(path|size)=\w+ is for imagefolder; digits takes none"):
        load("digits", validation=100, **options)  # type: ignore[arg-type]


def test_validation_as_large_as_the_training_split() -> None:
    with pytest.raises(DataError, match="validation=1438 is not smaller than the 1438 images"):
        load("digits", validation=1438)


def test_fetch_of_digits_needs_no_network_and_names_where_they_lie(tmp_path: Path) -> None:
    assert any(file.name.startswith("digits") for file in fetch("digits", root=tmp_path).iterdir())
    assert list(tmp_path.iterdir()) == []


def test_fetch_of_an_image_folder_says_what_to_do() -> None:
    with pytest.raises(DataError, match=r"imagefolder is not fetched.*dataset\.path=DIR"):
        fetch("imagefolder")


class TestDataRoot:
    def test_the_argument_comes_first(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ARSVD_DATA", "/elsewhere")
        assert data_root(tmp_path) == tmp_path
        assert data_root(str(tmp_path)) == tmp_path

    def test_then_the_environment(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ARSVD_DATA", str(tmp_path))
        assert data_root() == tmp_path

    @pytest.mark.parametrize("value", [None, ""])
    def test_then_the_cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        if value is None:
            monkeypatch.delenv("ARSVD_DATA", raising=False)
        else:
            monkeypatch.setenv("ARSVD_DATA", value)
        assert data_root() == tmp_path / ".cache" / "arsvd"

    def test_a_tilde_and_a_relative_path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.chdir(tmp_path)
        assert data_root("~/data") == tmp_path / "data"
        assert data_root("data") == tmp_path / "data"

    def test_an_unknown_home(self) -> None:
        with pytest.raises(DataError, match="cannot find the directory '~no_such_user_here/data'"):
            data_root("~no_such_user_here/data")


def test_confirmation_images_are_in_no_other_split_and_change_neither_validation_nor_test() -> None:
    plain, whole = load("digits", validation=0.2), load("digits", validation=0.2, confirmation=100)
    assert plain.confirmation is None
    assert whole.confirmation is not None
    assert len(whole.confirmation) == 100
    assert len(whole.train) == len(plain.train) - 100
    for split in ("validation", "test"):
        assert torch.equal(getattr(whole, split).images, getattr(plain, split).images)
    kept = [*rows(whole.train.images), *rows(whole.confirmation.images)]
    assert sorted(rows(plain.train.images)) == sorted(kept)
    assert whole.hash != plain.hash
    assert whole.mean != plain.mean  # measured on what is left to train on
    # trials train and choose: they do not even get them
    assert not any("confirmation" in name for name in whole.to_numpy())
    assert Dataset.from_numpy(whole.to_numpy()).confirmation is None
    with pytest.raises(DataError, match="confirmation=2000 is not smaller than"):
        load("digits", validation=0.2, confirmation=2000)
