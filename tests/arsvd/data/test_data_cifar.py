"""CIFAR-10 and CIFAR-100 in the authors' binary layout, and a local archive to fetch from."""

import hashlib
import io
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from arsvd.data import DataError, fetch, load
from arsvd.data.sources import SOURCES
from arsvd.data.sources import cifar as cifar_module
from arsvd.data.sources.cifar import CIFAR10, CIFAR100, Cifar

LAYOUTS = [CIFAR10, CIFAR100]


def pixels(name: str, count: int) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
    return np.random.default_rng(seed).integers(0, 256, (count, 3072), dtype=np.uint8)


def contents(layout: Cifar) -> dict[str, bytes]:
    """Files of the published form: one image a class in each CIFAR-10 batch, two in CIFAR-100's."""
    each = 1 if layout is CIFAR10 else 2
    labels = np.tile(np.arange(layout.classes, dtype=np.uint8), each)[:, None]
    coarse = np.full((len(labels), layout.label_bytes - 1), 19, dtype=np.uint8)
    files = {
        name: np.concatenate([coarse, labels, pixels(name, len(labels))], axis=1).tobytes()
        for name in (*layout.train, layout.test)
    }
    lines = "".join(f"name {i}\n" for i in range(layout.classes))
    files[layout.names] = f"{lines}\n".encode()
    return files


def write(root: Path, layout: Cifar) -> Path:
    folder = root / layout.folder
    folder.mkdir(parents=True)
    for name, data in contents(layout).items():
        (folder / name).write_bytes(data)
    return folder


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_files_are_read_in_order(layout: Cifar, tmp_path: Path) -> None:
    write(tmp_path, layout)
    data = load(layout.name, root=tmp_path, validation=layout.classes)
    images = {"cifar10": 50, "cifar100": 200}[layout.name]
    assert data.shape == (3, 32, 32)
    assert data.colour
    assert data.features == 3072
    assert data.classes == tuple(f"name {i}" for i in range(layout.classes))
    assert (len(data.train), len(data.validation)) == (images - layout.classes, layout.classes)
    test_count = images // len(layout.train)
    assert np.array_equal(data.test.images.numpy().reshape(test_count, 3072), pixels(layout.test, test_count))
    assert data.test.labels.tolist() == [i % layout.classes for i in range(test_count)]
    training = {image.numpy().tobytes() for image in (*data.train.images, *data.validation.images)}
    assert training == {row.tobytes() for name in layout.train for row in pixels(name, test_count)}


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_a_missing_directory_is_named_with_the_command_that_fetches_it(layout: Cifar, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the directory is missing") as caught:
        load(layout.name, root=tmp_path, validation=10)
    text = str(caught.value)
    assert str(tmp_path / layout.folder) in text
    assert f"`arsvd data {layout.name} --data-dir {tmp_path}`" in text
    assert "pickle" not in text
    assert "imagefolder" not in text


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_a_pickled_copy_is_not_read(layout: Cifar, tmp_path: Path) -> None:
    pickled = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}[layout.name]
    (tmp_path / pickled).mkdir()
    with pytest.raises(DataError, match=f"{pickled} is a pickle and is not read") as caught:
        load(layout.name, root=tmp_path, validation=10)
    assert f"`arsvd data {layout.name} --data-dir {tmp_path}`" in str(caught.value)


def test_an_image_folder_of_the_name_is_pointed_out(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / "cifar10" / split).mkdir(parents=True)
    wanted = f"dataset.name=imagefolder dataset.path={tmp_path / 'cifar10'}"
    with pytest.raises(DataError, match=wanted):
        load("cifar10", root=tmp_path, validation=10)


def label_at(offset: int, value: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:offset] + bytes((value,)) + data[offset + 1 :]


BROKEN: list[tuple[str, Cifar, str, Callable[[bytes], bytes], str]] = [
    (
        "cifar10 truncated",
        CIFAR10,
        "data_batch_3.bin",
        lambda data: data[:-1],
        r"not of cifar10: 30729 bytes, expected a multiple of 3073 \(1 of labels and 3072 of pixels\)",
    ),
    (
        "cifar100 truncated",
        CIFAR100,
        "test.bin",
        lambda data: data[:-1],
        r"truncated or not of cifar100: 614799 bytes, expected a multiple of 3074 \(2 of labels",
    ),
    ("empty", CIFAR10, "test_batch.bin", lambda data: b"", "is empty"),
    ("label 10", CIFAR10, "data_batch_1.bin", label_at(0, 10), "holds the label 10; labels are 0 to 9"),
    ("label 100", CIFAR100, "train.bin", label_at(1, 100), "holds the label 100; labels are 0 to 99"),
    ("few names", CIFAR10, "batches.meta.txt", lambda data: b"cat\ndog\n", "2 class names, expected 10"),
    (
        "a control character",
        CIFAR10,
        "batches.meta.txt",
        lambda d: d.replace(b"name 3", b"name\x013"),
        "not UTF-8 text",
    ),
    (
        "Latin-1 names",
        CIFAR10,
        "batches.meta.txt",
        lambda d: d.replace(b"name 3", b"caf\xe9"),
        "not UTF-8 text",
    ),
    (
        "a name twice",
        CIFAR10,
        "batches.meta.txt",
        lambda d: d.replace(b"name 3", b"name 4"),
        "class name name 4",
    ),
    ("endless names", CIFAR10, "batches.meta.txt", lambda d: d * 10_000, "larger than 100000 bytes"),
    ("binary names", CIFAR100, "fine_label_names.txt", lambda data: b"\xff\xfe", "1 class names, expected"),
]


@pytest.mark.parametrize(
    ("layout", "name", "change", "message"), [b[1:] for b in BROKEN], ids=[b[0] for b in BROKEN]
)
def test_broken_files(
    tmp_path: Path, layout: Cifar, name: str, change: Callable[[bytes], bytes], message: str
) -> None:
    folder = write(tmp_path, layout)
    (folder / name).write_bytes(change((folder / name).read_bytes()))
    with pytest.raises(DataError, match=f"{name}: .*{message}") as caught:
        load(layout.name, root=tmp_path, validation=10)
    assert f"`arsvd data {layout.name} --data-dir {tmp_path}`" in str(caught.value)


def test_a_byte_order_mark_is_not_part_of_the_first_name(tmp_path: Path) -> None:
    folder = write(tmp_path, CIFAR10)
    names = folder / "batches.meta.txt"
    names.write_bytes(b"\xef\xbb\xbf" + names.read_bytes())
    assert load("cifar10", root=tmp_path, validation=10).classes[0] == "name 0"


def test_missing_files_are_all_named(tmp_path: Path) -> None:
    folder = write(tmp_path, CIFAR10)
    for name in ("data_batch_2.bin", "test_batch.bin", "batches.meta.txt"):
        (folder / name).unlink()
    with pytest.raises(DataError) as caught:
        load("cifar10", root=tmp_path, validation=10)
    text = str(caught.value)
    assert [line.strip() for line in text.splitlines() if line.startswith("  ")] == [
        "data_batch_2.bin: is missing",
        "test_batch.bin: is missing",
        "batches.meta.txt: is missing",
    ]


def test_several_broken_files_come_in_one_message(tmp_path: Path) -> None:
    folder = write(tmp_path, CIFAR10)
    for name in ("data_batch_1.bin", "data_batch_5.bin", "batches.meta.txt"):
        (folder / name).write_bytes(b"")
    wanted = r"(?s)data_batch_1.bin: is empty.*data_batch_5.bin: is empty.*0 class names"
    with pytest.raises(DataError, match=wanted):
        load("cifar10", root=tmp_path, validation=10)


Serve = Callable[[Path], str]


def make_archive(
    path: Path, layout: Cifar, files: dict[str, bytes], serve: Serve, extra: str | None = None
) -> Cifar:
    """Pack files as the authors do, serve them, and return the layout that fetches this archive."""
    with tarfile.open(path, "w:gz") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(f"{layout.folder}/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        if extra is not None:
            info = tarfile.TarInfo(extra)
            info.size = 4
            tar.addfile(info, io.BytesIO(b"evil"))
    url = f"{serve(path.parent)}{path.name}"
    return replace(layout, url=url, md5=hashlib.md5(path.read_bytes()).hexdigest())


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_fetch_unpacks_only_the_wanted_files(
    layout: Cifar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serve: Serve
) -> None:
    files = contents(layout) | {"readme.html": b"<html>"}
    packed = make_archive(tmp_path / "archive.tar.gz", layout, files, serve, extra="../../outside")
    monkeypatch.setitem(SOURCES._loaded, layout.name, packed)
    root = tmp_path / "a" / "root"
    assert fetch(layout.name, root=root) == root / layout.folder
    assert sorted(path.name for path in root.rglob("*") if path.is_file()) == sorted(layout.files)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "archive.tar.gz"]
    assert [path.name for path in root.iterdir()] == [layout.folder]
    assert load(layout.name, root=root, validation=layout.classes).classes[1] == "name 1"


def test_fetch_of_whole_files_asks_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path, CIFAR10)
    monkeypatch.setitem(SOURCES._loaded, "cifar10", replace(CIFAR10, url="http://127.0.0.1:9/"))
    assert fetch("cifar10", root=tmp_path) == folder


def _link(info: tarfile.TarInfo) -> None:
    info.type, info.linkname, info.size = tarfile.SYMTYPE, "../../outside", 0


def _loop(info: tarfile.TarInfo) -> None:
    info.type, info.linkname, info.size = tarfile.LNKTYPE, info.name, 0


def _large(info: tarfile.TarInfo) -> None:
    info.size = 512


@pytest.mark.parametrize("change", [_link, _loop, _large])
def test_only_files_of_a_possible_size_are_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[tarfile.TarInfo], None]
) -> None:
    """The sum is known to be right by then; this holds where it is not."""
    monkeypatch.setattr(cifar_module, "MOST_BYTES", 100)
    archive, folder = tmp_path / "archive.tar.gz", tmp_path / "stage"
    folder.mkdir()
    with tarfile.open(archive, "w:gz") as tar:
        info = tarfile.TarInfo(f"{CIFAR10.folder}/{CIFAR10.files[0]}")
        change(info)
        tar.addfile(info, io.BytesIO(b"x" * info.size))
    with pytest.raises(tarfile.TarError, match="is not a file of at most 100 bytes"):
        cifar_module._unpack(archive, folder, CIFAR10)
    assert [path.name for path in folder.rglob("*")] == [CIFAR10.folder]


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        ("wrong sum", "corrupted"),
        ("absent", "HTTP Error 404"),
        ("no server", "refused"),
        ("not an archive", "not a gzip file"),
        ("a file too few", "test_batch.bin' not found"),
        ("a broken file inside", r"data_batch_1.bin: is truncated or not of cifar10: 3 bytes"),
    ],
)
def test_a_failed_fetch_says_why_and_changes_nothing(
    fault: str, cause: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serve: Serve
) -> None:
    archive = tmp_path / "archive.tar.gz"
    files = contents(CIFAR10)
    if fault == "a file too few":
        del files["test_batch.bin"]
    if fault == "a broken file inside":
        files["data_batch_1.bin"] = b"bad"
    layout = make_archive(archive, CIFAR10, files, serve)
    if fault == "wrong sum":
        layout = replace(layout, md5="0" * 32)
    elif fault == "absent":
        archive.unlink()
    elif fault == "no server":
        layout = replace(layout, url="http://127.0.0.1:9/cifar-10-binary.tar.gz")
    elif fault == "not an archive":
        archive.write_bytes(b"<html>sorry</html>")
        layout = replace(layout, md5=hashlib.md5(archive.read_bytes()).hexdigest())
    monkeypatch.setitem(SOURCES._loaded, "cifar10", layout)
    root = tmp_path / "root"
    folder = write(root, CIFAR10)
    (folder / "data_batch_4.bin").write_bytes(b"broken before")
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    with pytest.raises(DataError, match=f"cannot fetch cifar10 into {root}: .*{cause}") as caught:
        fetch("cifar10", root=root)
    assert f"copy the files into {folder} by hand" in str(caught.value)
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before
    assert [path.name for path in root.iterdir()] == [CIFAR10.folder]


def test_the_published_sums() -> None:
    """As printed in the table of https://www.cs.toronto.edu/~kriz/cifar.html for the binary versions."""
    assert CIFAR10.md5 == "c32a1d4ab5d03f1284b67883e8d87530"
    assert CIFAR100.md5 == "03b5dce01913d631647c71ecec9e9cb8"
