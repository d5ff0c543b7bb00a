"""MNIST from IDX files: made ones, broken ones, a local mirror, and the real ones where they are."""

import gzip
import hashlib
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from arsvd.data import DataError, fetch, load

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def idx(array: np.ndarray) -> bytes:
    shape = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes((0, 0, 8, array.ndim)) + shape + array.astype(np.uint8).tobytes()


def contents(train: int = 40, test: int = 20) -> dict[str, bytes]:
    generator = np.random.default_rng(0)
    pixels = {count: generator.integers(0, 256, (count, 6, 5)) for count in (train, test)}
    return dict(
        zip(
            FILES,
            (idx(pixels[train]), idx(np.arange(train) % 10), idx(pixels[test]), idx(np.arange(test) % 10)),
            strict=True,
        )
    )


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name, data in contents().items():
        (folder / name).write_bytes(data)
    return folder


def test_files_are_read_as_they_are(raw: Path, tmp_path: Path) -> None:
    data = load("mnist", root=tmp_path, validation=10, seed=4)
    assert data.shape == (1, 6, 5)
    assert data.classes == tuple("0123456789")
    assert (len(data.train), len(data.validation), len(data.test)) == (30, 10, 20)
    assert torch.bincount(data.validation.labels).tolist() == [1] * 10
    expected = np.frombuffer((raw / FILES[2]).read_bytes(), np.uint8, offset=16).reshape(20, 1, 6, 5)
    assert np.array_equal(data.test.images.numpy(), expected)
    assert data.test.labels.tolist() == [i % 10 for i in range(20)]


def test_the_environment_names_the_root(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARSVD_DATA", str(tmp_path))
    assert load("mnist", validation=10).hash == load("mnist", root=tmp_path, validation=10).hash


def test_hash_changes_with_one_byte_of_a_file(raw: Path, tmp_path: Path) -> None:
    before = load("mnist", root=tmp_path, validation=10).hash
    for name, offset in ((FILES[0], 16), (FILES[2], -1)):
        whole = bytearray((raw / name).read_bytes())
        whole[offset] ^= 1
        (raw / name).write_bytes(whole)
        after = load("mnist", root=tmp_path, validation=10).hash
        assert after != before
        before = after


def cut(data: bytes) -> bytes:
    return data[:-7]


BROKEN: list[tuple[str, str, Callable[[bytes], bytes], str]] = [
    ("truncated images", FILES[0], cut, r"is truncated: 1209 bytes, expected 1216 for 40×6×5"),
    ("truncated labels", FILES[3], cut, r"is truncated: 21 bytes, expected 28 for 20"),
    ("truncated header", FILES[2], lambda data: data[:9], "inside its header: 9 bytes, expected at least 16"),
    ("too long", FILES[1], lambda data: data + b"\0", "is too long: 49 bytes, expected 48 for 40"),
    ("empty", FILES[1], lambda data: b"", r"not an IDX file .*nothing \(it is empty\), expected 00000801"),
    ("HTML", FILES[0], lambda data: b"<html>" + data, "not an IDX .*starts with 3c68746d, expected 00000803"),
    ("gzip", FILES[0], gzip.compress, "not an IDX file of 3-dimensional bytes: it starts with 1f8b"),
    ("labels for images", FILES[0], lambda data: idx(np.zeros(3)), "starts with 00000801, expected 00000803"),
    ("floats", FILES[0], lambda data: b"\0\0\x0d\x03" + data[4:], "starts with 00000d03, expected 00000803"),
    ("fewer labels", FILES[1], lambda data: idx(np.zeros(39)), "39 labels, but train-images.* 40 images"),
    ("a label of 10", FILES[3], lambda data: data[:-1] + b"\x0a", "holds the label 10; labels are 0 to 9"),
    ("other size", FILES[2], lambda data: idx(np.zeros((20, 7, 5))), "differ in size: 6×5 and 7×5 pixels"),
    ("no pixels", FILES[2], lambda data: idx(np.zeros((20, 0, 5))), "holds nothing: its header says 20×0×5"),
    ("no labels", FILES[1], lambda data: idx(np.zeros(0)), "holds nothing: its header says 0"),
]


@pytest.mark.parametrize(("name", "change", "message"), [b[1:] for b in BROKEN], ids=[b[0] for b in BROKEN])
def test_broken_files(
    raw: Path, tmp_path: Path, name: str, change: Callable[[bytes], bytes], message: str
) -> None:
    (raw / name).write_bytes(change((raw / name).read_bytes()))
    with pytest.raises(DataError, match=message) as caught:
        load("mnist", root=tmp_path, validation=10)
    text = str(caught.value)
    assert name in text or "differ in size" in text
    assert f"mnist cannot be read from {raw}" in text
    assert f"`arsvd data mnist --data-dir {tmp_path}`" in text


def test_all_faults_come_in_one_message(raw: Path, tmp_path: Path) -> None:
    (raw / FILES[0]).unlink()
    (raw / FILES[1]).unlink()
    (raw / f"{FILES[1]}.gz").write_bytes(b"")
    (raw / FILES[3]).write_bytes(b"text")
    with pytest.raises(DataError) as caught:
        load("mnist", root=tmp_path, validation=10)
    text = str(caught.value)
    assert f"{FILES[0]}: is missing\n" in text
    assert f"{FILES[1]}: is missing (there is a {FILES[1]}.gz, which gunzip unpacks)" in text
    assert f"{FILES[2]}:" not in text
    assert f"{FILES[3]}: is not an IDX file" in text


def test_a_directory_in_place_of_a_file(raw: Path, tmp_path: Path) -> None:
    (raw / FILES[0]).unlink()
    (raw / FILES[0]).mkdir()
    with pytest.raises(DataError, match=f"{FILES[0]}: cannot be read \\(Is a directory\\)"):
        load("mnist", root=tmp_path, validation=10)


@pytest.mark.parametrize(
    "make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")], ids=["pipe", "device"]
)
def test_pipes_and_devices_are_refused_without_waiting(
    raw: Path, tmp_path: Path, make: Callable[[Path], object]
) -> None:
    (raw / FILES[1]).unlink()
    make(raw / FILES[1])
    with pytest.raises(
        DataError, match=f"{FILES[1]}: cannot be read \\(it is a pipe or a device, must be a file"
    ):
        load("mnist", root=tmp_path, validation=10)


def test_a_header_of_enormous_dimensions_takes_no_memory(raw: Path, tmp_path: Path) -> None:
    (raw / FILES[0]).write_bytes(bytes((0, 0, 8, 3)) + b"\xff" * 12)
    with pytest.raises(DataError, match="is truncated: 16 bytes, expected 792281624"):
        load("mnist", root=tmp_path, validation=10)


def test_nothing_there_names_place_and_command(tmp_path: Path) -> None:
    root = tmp_path / "with space"
    with pytest.raises(DataError) as caught:
        load("mnist", root=root, validation=10)
    text = str(caught.value)
    assert all(f"{name}: is missing" in text for name in FILES)
    assert f"`arsvd data mnist --data-dir '{root}'`" in text


def test_a_root_one_level_too_deep_is_noticed(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"the data directory may be the one above it, {tmp_path}\\."):
        load("mnist", root=tmp_path / "MNIST", validation=10)


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serve: Callable[[Path], str]) -> Path:
    """The directory behind the server that torchvision's downloader takes for MNIST's."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    resources = []
    for name, data in contents().items():
        packed = gzip.compress(data)
        (folder / f"{name}.gz").write_bytes(packed)
        resources.append((f"{name}.gz", hashlib.md5(packed).hexdigest()))
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [serve(folder)])
    monkeypatch.setattr(torchvision.datasets.MNIST, "resources", resources)
    return folder


def test_fetch_brings_whole_files_and_nothing_else(mirror: Path, tmp_path: Path) -> None:
    root = tmp_path / "new" / "root"
    folder = fetch("mnist", root=root)
    assert folder == root / "MNIST" / "raw"
    assert sorted(path.relative_to(root) for path in root.rglob("*") if path.is_file()) == sorted(
        Path("MNIST/raw") / name for name in FILES
    )
    assert [path.name for path in root.iterdir()] == ["MNIST"]
    assert len(load("mnist", root=root, validation=10).train) == 30


def test_fetch_mends_a_broken_file(mirror: Path, raw: Path, tmp_path: Path) -> None:
    (raw / FILES[0]).write_bytes(b"half")
    fetch("mnist", root=tmp_path)
    assert (raw / FILES[0]).read_bytes() == contents()[FILES[0]]


def test_fetch_of_whole_files_asks_no_server(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", ["file:///nowhere/"])
    assert fetch("mnist", root=tmp_path) == raw


@pytest.mark.parametrize("fault", ["corrupt", "absent", "no server"])
def test_a_failed_fetch_says_why_and_leaves_nothing(
    mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    causes = {"corrupt": "corrupted", "absent": "HTTP Error 404", "no server": "refused"}
    if fault == "corrupt":
        (mirror / f"{FILES[2]}.gz").write_bytes(b"half a file")
    elif fault == "absent":
        (mirror / f"{FILES[2]}.gz").unlink()
    else:
        monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", ["http://127.0.0.1:9/"])
    root = tmp_path / "root"
    with pytest.raises(DataError, match=f"cannot fetch mnist into {root}: .*{causes[fault]}") as caught:
        fetch("mnist", root=root)
    assert f"`arsvd data mnist --data-dir {root}`" in str(caught.value)
    assert str(root / "MNIST" / "raw") in str(caught.value)
    assert list(root.rglob("*")) == []
    with pytest.raises(DataError, match="is missing"):
        load("mnist", root=root, validation=10)


def test_fetch_into_a_file(mirror: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot fetch mnist into .*file: .*(File exists|Not a directory)"):
        fetch("mnist", root=tmp_path / "file")


def test_the_real_files() -> None:
    root = os.environ.get("ARSVD_TEST_DATA")
    if not root or not (Path(root) / "MNIST" / "raw").is_dir():
        pytest.skip("ARSVD_TEST_DATA names no directory with MNIST/raw")
    data = load("mnist", root=root, validation=5000)
    assert (len(data.train), len(data.validation), len(data.test)) == (55_000, 5_000, 10_000)
    assert data.shape == (1, 28, 28)
    assert data.mean[0] == pytest.approx(0.1307, abs=2e-4)
    assert data.std[0] == pytest.approx(0.3081, abs=2e-4)
    assert data.test.labels[:5].tolist() == [7, 2, 1, 0, 4]
