"""MNIST, from the four IDX files that its authors publish."""

from __future__ import annotations

from math import prod
from pathlib import Path

from torch import Tensor

from arsvd.data.dataset import DataError, Source, Split
from arsvd.data.download import install, staging
from arsvd.data.roots import fetch_command

CLASSES = tuple("0123456789")
PREFIXES = {"train": "train", "test": "t10k"}
# File name endings and the dimensions of the array inside: (samples, height, width) and (samples,).
IMAGES = ("images-idx3-ubyte", 3)
LABELS = ("labels-idx1-ubyte", 1)


def folder(root: Path) -> Path:
    """Where the files lie under the data directory; the layout is torchvision's."""
    return root / "MNIST" / "raw"


def read(root: Path) -> Source:
    """Read MNIST.

    Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits", 1998.

    Raises:
        DataError: A file that is missing, truncated, not IDX, or at odds with another; all faults at once.
    """
    from torchvision.datasets.mnist import read_image_file, read_label_file

    _refuse(root, _header_faults(root))
    splits: dict[str, Split] = {}
    faults: list[str] = []
    for name, prefix in PREFIXES.items():
        image_file, label_file = (folder(root) / f"{prefix}-{ending}" for ending, _ in (IMAGES, LABELS))
        images: Tensor = read_image_file(str(image_file))
        labels: Tensor = read_label_file(str(label_file))
        if len(images) != len(labels):
            faults.append(
                f"{label_file.name}: holds {len(labels)} labels, but {image_file.name} {len(images)} images"
            )
        elif int(labels.max()) >= len(CLASSES):
            faults.append(f"{label_file.name}: holds the label {int(labels.max())}; labels are 0 to 9")
        else:
            splits[name] = Split(images[:, None], labels)
    _refuse(root, faults)
    train, test = splits["train"], splits["test"]
    if train.images.shape[1:] != test.images.shape[1:]:
        sizes = " and ".join("×".join(map(str, split.images.shape[2:])) for split in (train, test))
        _refuse(root, [f"training and test images differ in size: {sizes} pixels"])
    return Source(CLASSES, train, test)


def fetch(root: Path) -> Path:
    """Download MNIST, unless it is there and whole.

    Returns:
        The directory of the files.

    Raises:
        DataError: A failed download, with its cause.
    """
    from torchvision.datasets import MNIST

    target = folder(root)
    try:
        read(root)
    except DataError:
        with staging("mnist", root, target) as stage:
            MNIST(stage, download=True)
            read(stage)
            install([folder(stage) / name for name, _ in _files()], target)
    return target


def _files() -> list[tuple[str, int]]:
    return [
        (f"{prefix}-{ending}", dimensions)
        for prefix in PREFIXES.values()
        for ending, dimensions in (IMAGES, LABELS)
    ]


def _header_faults(root: Path) -> list[str]:
    faults = []
    for name, dimensions in _files():
        try:
            fault = _header_fault(folder(root) / name, dimensions)
        except OSError as cause:
            fault = f"cannot be read ({cause.strerror or cause})"
        if fault is not None:
            faults.append(f"{name}: {fault}")
    return faults


def _header_fault(path: Path, dimensions: int) -> str | None:
    """What is wrong with an IDX file, judged by its header and its size.

    The header is two zero bytes, a type (8 is uint8), the number of dimensions, and each dimension as a
    big-endian 32-bit integer.
    """
    if not path.exists():
        packed = path.with_name(f"{path.name}.gz")
        hint = f" (there is a {packed.name}, which gunzip unpacks)" if packed.exists() else ""
        return f"is missing{hint}"
    header_size = 4 + 4 * dimensions
    with path.open("rb") as file:
        header = file.read(header_size)
    got = path.stat().st_size
    magic = bytes((0, 0, 8, dimensions))
    if header[:4] != magic:
        return (
            f"is not an IDX file of {dimensions}-dimensional bytes: it starts with "
            f"{header[:4].hex() or 'nothing (it is empty)'}, expected {magic.hex()}"
        )
    if len(header) < header_size:
        return f"is truncated inside its header: {got} bytes, expected at least {header_size}"
    shape = [int.from_bytes(header[i : i + 4], "big") for i in range(4, header_size, 4)]
    expected = header_size + prod(shape)
    if got != expected:
        kind = "is truncated" if got < expected else "is too long"
        return f"{kind}: {got} bytes, expected {expected} for {'×'.join(map(str, shape))}"
    if expected == header_size:
        return f"holds nothing: its header says {'×'.join(map(str, shape))}"
    return None


def _refuse(root: Path, faults: list[str]) -> None:
    if not faults:
        return
    lines = "".join(f"\n  {fault}" for fault in faults)
    hint = ""
    if (root / "raw").is_dir() and not folder(root).is_dir():
        hint = f"\n{root} holds raw/: the data directory may be the one above it, {root.parent}."
    raise DataError(
        f"mnist cannot be read from {folder(root)}:{lines}{hint}\n"
        f"Fetch it with {fetch_command('mnist', root)}."
    )
