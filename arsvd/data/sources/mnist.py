"""MNIST, from the four IDX files that its authors publish."""

from __future__ import annotations

import os
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from arsvd.data.download import fetch_unless_whole
from arsvd.data.errors import DataError
from arsvd.data.roots import fetch_command
from arsvd.data.sources.base import DataSource, Request
from arsvd.files.opening import open_file

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from arsvd.data.dataset import Source, Split

CLASSES = tuple("0123456789")
PREFIXES = {"train": "train", "test": "t10k"}
# File name endings, and the dimensions of the array inside: (samples, height, width) and (samples,).
IMAGES = ("images-idx3-ubyte", 3)
LABELS = ("labels-idx1-ubyte", 1)


def folder(root: Path) -> Path:
    """Return the folder of the files below the data directory; the layout is torchvision's."""
    return root / "MNIST" / "raw"


class Mnist(DataSource):
    """MNIST.

    Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits", 1998.
    """

    def read(self, request: Request) -> Source:
        """Read the four files.

        Raises:
            DataError: a file is missing, truncated, not IDX, or at odds with another; all faults at once.
        """
        return _read(request.root)

    def example(self, root: Path) -> Request:
        """Write 40 and 20 images of 6×5 pixels."""
        import numpy as np

        folder(root).mkdir(parents=True)
        draw = np.random.default_rng(0)
        for name, dimensions in _files():
            count = 40 if name.startswith(PREFIXES["train"]) else 20
            images, labels = draw.integers(0, 256, (count, 6, 5)), np.arange(count) % len(CLASSES)
            array = (images if dimensions == IMAGES[1] else labels).astype(np.uint8)
            header = bytes((0, 0, 8, dimensions)) + np.array(array.shape, ">u4").tobytes()
            (folder(root) / name).write_bytes(header + array.tobytes())
        return Request(root, 10, 0, {})

    def fetch(self, root: Path) -> Path:
        """Download MNIST, unless it is already there and whole."""

        def download(stage: Path) -> list[Path]:
            from torchvision.datasets import MNIST as PUBLISHED

            PUBLISHED(stage, download=True)
            return [folder(stage) / name for name, _ in _files()]

        return fetch_unless_whole("mnist", root, folder(root), _read, download)


MNIST = Mnist()


def _read(root: Path) -> Source:
    import torch

    from arsvd.data.dataset import Source, Split

    arrays: dict[str, NDArray[np.uint8]] = {}
    faults: list[str] = []
    for name, dimensions in _files():
        try:
            arrays[name] = _array(folder(root) / name, dimensions)
        except DataError as fault:
            faults.append(f"{name}: {fault}")
        except OSError as cause:
            faults.append(f"{name}: cannot be read ({cause.strerror or cause})")
    _refuse(root, faults)
    splits: dict[str, Split] = {}
    for split, prefix in PREFIXES.items():
        image_file, label_file = (f"{prefix}-{ending}" for ending, _ in (IMAGES, LABELS))
        images, labels = torch.from_numpy(arrays[image_file]), torch.from_numpy(arrays[label_file]).long()
        if len(images) != len(labels):
            faults.append(f"{label_file}: holds {len(labels)} labels, but {image_file} {len(images)} images")
        elif int(labels.max()) >= len(CLASSES):
            faults.append(f"{label_file}: holds the label {int(labels.max())}; labels are 0 to 9")
        else:
            splits[split] = Split(images[:, None], labels)
    _refuse(root, faults)
    train, test = splits["train"], splits["test"]
    if train.images.shape[1:] != test.images.shape[1:]:
        sizes = " and ".join("×".join(map(str, split.images.shape[2:])) for split in (train, test))
        _refuse(root, [f"training and test images differ in size: {sizes} pixels"])
    return Source(CLASSES, train, test)


def _files() -> list[tuple[str, int]]:
    return [
        (f"{prefix}-{ending}", dimensions)
        for prefix in PREFIXES.values()
        for ending, dimensions in (IMAGES, LABELS)
    ]


def _array(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Read an IDX file, after checking that its header and its size agree.

    The header is two zero bytes, a type (8 is uint8), the number of dimensions, and each dimension as a
    big-endian 32-bit integer.

    Raises:
        DataError: the file is broken; the message says how.
        OSError: the file cannot be read.
    """
    try:
        file = open_file(path)
    except FileNotFoundError:
        packed = path.with_name(f"{path.name}.gz")
        hint = f" (there is a {packed.name}, which gunzip unpacks)" if packed.exists() else ""
        raise DataError(f"is missing{hint}") from None
    with file:
        got = os.fstat(file.fileno()).st_size
        import numpy as np

        shape = _shape(file.read(4 + 4 * dimensions), dimensions, got)
        return np.fromfile(file, dtype=np.uint8, count=prod(shape)).reshape(shape)


def _shape(header: bytes, dimensions: int, got: int) -> list[int]:
    """Take the shape out of a header.

    Args:
        header: first bytes of the file, as many as it has up to a whole header.
        dimensions: number of dimensions that there must be.
        got: size of the whole file in bytes.

    Raises:
        DataError: the file is broken, judged by its header and its size; the message says how.
    """
    size = 4 + 4 * dimensions
    magic = bytes((0, 0, 8, dimensions))
    if header[:4] != magic:
        raise DataError(
            f"is not an IDX file of {dimensions}-dimensional bytes: it starts with "
            f"{header[:4].hex() or 'nothing (it is empty)'}, expected {magic.hex()}"
        )
    if len(header) < size:
        raise DataError(f"is truncated inside its header: {got} bytes, expected at least {size}")
    shape = [int.from_bytes(header[i : i + 4], "big") for i in range(4, size, 4)]
    expected = size + prod(shape)
    if got != expected:
        kind = "is truncated" if got < expected else "is too long"
        raise DataError(f"{kind}: {got} bytes, expected {expected} for {'×'.join(map(str, shape))}")
    if expected == size:
        raise DataError(f"holds nothing: its header says {'×'.join(map(str, shape))}")
    return shape


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
