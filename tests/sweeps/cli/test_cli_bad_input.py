"""A sweep that cannot run: exit status 2, one message, no traceback, and nothing written."""

import contextlib
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Refused = Callable[..., str]

# name: overrides of the bundled digits sweep, the text that must be in the message
OVERRIDES: dict[str, tuple[list[str], str]] = {
    "unknown key": (["training.epoch=3"], "training.epoch: unknown key; did you mean training.epochs?"),
    "wrong type": (["training.epochs=ten"], "training.epochs: got 'ten', must be a whole number >= 1"),
    "empty choice": (["model.factors={choice: []}"], "model.factors"),
    "lo equals hi": (["model.dropout={uniform: [0.2, 0.2]}"], "model.dropout"),
    "lo above hi": (["training.lr={loguniform: [1e-2, 1e-3]}"], "training.lr"),
    "energy range upside down": (["compression.energy={range: [0.9, 0.3]}"], "compression.energy"),
    "tau 0": (["compression.energy=0"], "compression.energy: got 0, must be a number > 0 and <= 1"),
    "tau above 1": (
        ["compression.energy=1.01"],
        "compression.energy: got 1.01, must be a number > 0 and <= 1",
    ),
    "tau above 1 in a range": (["compression.energy={range: [0.3, 1.5]}"], "compression.energy"),
    "zero trials": (["search.trials=0"], "search.trials: got 0, must be a whole number >= 1"),
    "hidden width 0": (["model.hidden=[64, 0]"], "model.hidden: got [64, 0]"),
    "unknown data set": (["dataset.name=mnits"], "did you mean mnist?"),
    "unknown sampler": (["search.sampler=grid"], "search.sampler: got 'grid'"),
    "a tab": (["search.trials=\t[1"], "search.trials"),
    "no value": (["search.trials"], "the override 'search.trials' has no =, must be section.key=value"),
    "several at once": (
        ["search.trials=0", "training.epoch=3", "model.hidden=[]"],
        "has 3 faults:",
    ),
}
# known only once the data is read
SPLITS = {
    "larger than the training set": ("5000", "validation=5000 is not smaller than the 1438 images"),
    "as large as the training set": ("1438", "validation=1438 is not smaller than the 1438 images"),
    "all but one image": ("1437", "give at most 1428"),
    "fewer images than classes": ("3", "give at least 10"),
}


@pytest.mark.parametrize("command", ["sweep", "validate"])
@pytest.mark.parametrize(("overrides", "text"), OVERRIDES.values(), ids=OVERRIDES)
def test_an_invalid_override_is_refused(
    refused: Refused, workplace: Path, command: str, overrides: list[str], text: str
) -> None:
    message = refused(command, "digits", *overrides)
    assert text in message
    for override in overrides:
        assert override.partition("=")[0] in message


@pytest.mark.parametrize(("validation", "text"), SPLITS.values(), ids=SPLITS)
def test_a_validation_split_that_cannot_be_made(
    refused: Refused, workplace: Path, validation: str, text: str
) -> None:
    assert text in refused("sweep", "digits", f"dataset.validation={validation}")


# name: the file's content, the text that must be in the message
FILES: dict[str, tuple[bytes, str]] = {
    "not a mapping": (b"- digits\n- mnist\n", "must be a mapping such as dataset: {name: mnist}"),
    "a word": (b"digits", "must be a mapping"),
    "empty": (b"", "it is empty; it needs the keys dataset, model, training and search"),
    "a tab": (b"dataset:\n\tname: digits\n", "tab"),
    "not closed": (b"dataset: {name: digits", "line 1"),
    "10 MB": (b"# filler\n" * 1_200_000, "it is larger than 1 MB, which no sweep file is"),
    "10 MB of one line": (b"a" * 10_000_000, "it is larger than 1 MB"),
    "binary": (bytes(range(256)) * 10, "is not UTF-8 text"),
    "a Python object": (b"dataset: !!python/object/apply:os.system ['touch owned']\n", "is not allowed"),
    "nested without end": (b"a: &a [*a]\n" + b"b: " + b"[" * 5000, "sweep.yaml"),
    "a bomb of aliases": (
        b"a: &a [x,x,x,x,x,x,x,x,x]\n"
        + b"".join(b"%c: &%c [%s]\n" % (n, n, b",".join([b"*%c" % (n - 1)] * 9)) for n in range(98, 110)),
        "sweep.yaml",
    ),
}


@pytest.mark.parametrize(("content", "text"), FILES.values(), ids=FILES)
def test_a_sweep_file_that_cannot_be_read(
    refused: Refused, workplace: Path, content: bytes, text: str
) -> None:
    (workplace / "sweep.yaml").write_bytes(content)
    message = refused("sweep", "sweep.yaml")
    assert "sweep file 'sweep.yaml'" in message
    assert text in message
    assert len(message) < 5000


@pytest.mark.parametrize("name", ["digit", "nowhere.yaml", ".", "\0", ""])
def test_a_sweep_file_that_is_not_there(refused: Refused, workplace: Path, name: str) -> None:
    assert "sweep file" in refused("sweep", name)


def idx(array: np.ndarray) -> bytes:
    """An array of bytes as an IDX file."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_mnist(folder: Path) -> Path:
    raw = folder / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for prefix, count in (("train", 200), ("t10k", 50)):
        images = np.zeros((count, 28, 28), np.uint8)
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(idx(images))
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(idx((np.arange(count) % 10).astype(np.uint8)))
    return raw


IMAGES, LABELS = "train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"

# name: what happens to whole files, the texts that must be in the message
MNIST: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "missing": (lambda raw: (raw / IMAGES).unlink(), [f"{IMAGES}: is missing", "arsvd data mnist"]),
    "truncated": (
        lambda raw: (raw / IMAGES).write_bytes((raw / IMAGES).read_bytes()[:-1]),
        [f"{IMAGES}: is truncated: 156815 bytes, expected 156816"],
    ),
    "truncated in its header": (
        lambda raw: (raw / LABELS).write_bytes(b"\0\0\x08\x01\0"),
        [f"{LABELS}: is truncated inside its header"],
    ),
    "not IDX": (lambda raw: (raw / LABELS).write_text("<html>404"), [f"{LABELS}: is not an IDX file"]),
    "empty": (lambda raw: (raw / LABELS).write_bytes(b""), ["it is empty"]),
    "two at once": (
        lambda raw: ((raw / IMAGES).unlink(), (raw / LABELS).write_text("x")),
        [f"{IMAGES}: is missing", f"{LABELS}: is not an IDX file"],
    ),
    "a folder": (
        lambda raw: ((raw / LABELS).unlink(), (raw / LABELS).mkdir()),
        [f"{LABELS}: cannot be read"],
    ),
}


@pytest.mark.parametrize(("damage", "texts"), MNIST.values(), ids=MNIST)
def test_mnist_files_that_are_not_whole(
    refused: Refused, workplace: Path, damage: Callable[[Path], object], texts: list[str]
) -> None:
    raw = write_mnist(workplace)
    damage(raw)
    message = refused("sweep", "mnist", "--data-dir", str(workplace / "data"), "dataset.validation=50")
    assert str(raw) in message
    for text in texts:
        assert text in message


@pytest.mark.parametrize("name", ["mnist", "cifar10", "cifar100"])
def test_missing_data_is_reported_with_the_command_that_fetches_it(
    refused: Refused, workplace: Path, name: str
) -> None:
    message = refused("sweep", name, "--data-dir", str(workplace / "nowhere"))
    assert f"arsvd data {name} --data-dir" in message
    assert str(workplace / "nowhere") in message


def write_classes(folder: Path, *names: str) -> Path:
    for value, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for number in range(10):
            Image.new("L", (8, 8), 20 * value + number).save(folder / name / f"{number}.png")
    return folder


# name: what the folder looks like, the text that must be in the message
FOLDERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "one class": (lambda path: write_classes(path, "cats"), "only one class folder, cats/"),
    "no class": (lambda path: path.mkdir(), "no class folders"),
    "not there": (lambda path: None, "does not exist"),
    "a file": (lambda path: path.write_text("x"), "is a file, not a directory"),
    "an empty class": (
        lambda path: (write_classes(path, "cats", "dogs"), (path / "cows").mkdir()),
        "no images in the class folder cows",
    ),
    "a broken image": (
        lambda path: (write_classes(path, "cats", "dogs") / "dogs" / "3.png").write_bytes(
            b"\x89PNG\r\n\x1a\nx"
        ),
        "3.png",
    ),
    "a truncated image": (
        lambda path: cut(write_classes(path, "cats", "dogs") / "cats" / "5.png"),
        "5.png",
    ),
    "an image that is text": (
        lambda path: (write_classes(path, "cats", "dogs") / "dogs" / "a.jpg").write_text("no image"),
        "a.jpg",
    ),
}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


@pytest.mark.parametrize(("make", "text"), FOLDERS.values(), ids=FOLDERS)
def test_image_folders_that_cannot_be_used(
    refused: Refused, workplace: Path, make: Callable[[Path], object], text: str
) -> None:
    make(workplace / "pictures")
    message = refused(
        "sweep",
        "digits",
        "name=own",
        "dataset.name=imagefolder",
        f"dataset.path={workplace / 'pictures'}",
    )
    assert text in message
    assert "pictures" in message


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
    return number


@pytest.mark.parametrize("command", [["sweep", "digits"], ["best", "digits"]], ids=["sweep", "best"])
def test_a_tracking_server_that_does_not_answer(
    refused: Refused, workplace: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    address = f"127.0.0.1:{closed_port()}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://someone:secret@{address}")
    monkeypatch.setenv("no_proxy", "*")
    message = refused(*command)
    assert f"no tracking server answers at http://{address} (the connection was refused)" in message
    assert "secret" not in message


def test_a_page_of_a_sweep_that_is_not_there(refused: Refused, store: Path) -> None:
    assert "there is no sweep 'digits'" in refused("ui", "digits")


@pytest.mark.parametrize("command", [["sweep", "digits"], ["best", "digits"], ["ui"]], ids=lambda c: c[0])
@pytest.mark.parametrize("uri", ["ftp://example.org", "mlruns", "sqlite:///{folder}/notes.txt"])
def test_a_tracking_store_that_cannot_be_used(
    refused: Refused, workplace: Path, monkeypatch: pytest.MonkeyPatch, command: list[str], uri: str
) -> None:
    (workplace / "notes.txt").write_text("no database\n" * 1000)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri.format(folder=workplace))
    message = refused(*command)
    assert "tracking" in message


def test_a_trial_that_the_machine_cannot_hold(
    refused: Refused, workplace: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.local.local_ray", contextlib.nullcontext)
    monkeypatch.setattr("ray.is_initialized", lambda: True)
    monkeypatch.setattr("ray.nodes", lambda: [{"Alive": True, "Resources": {"CPU": 2.0}}])
    message = refused("sweep", "digits", "resources.cpu=64")
    assert "a trial needs 64 cores and 0 GPUs on one node, the machine has 2 and 0" in message
