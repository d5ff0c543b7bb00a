"""IDX files of MNIST, CIFAR's records and class names, and folders of images."""

import io
import struct
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np
import torchvision.datasets.folder  # noqa: F401 - seconds of importing, before the clock runs

from arsvd.data import DataError
from arsvd.data.sources import SOURCES, Request
from arsvd.data.sources.cifar import CIFAR10, CIFAR100, Cifar
from arsvd.data.sources.mnist import folder
from tests.fuzz.contract import Seed, Target
from tests.fuzz.mutation.raw import mutate_bytes


def _idx(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@cache
def _mnist_files() -> tuple[Seed, ...]:
    draw = np.random.default_rng(0)
    files = []
    for prefix, count in (("train", 12), ("t10k", 10)):
        images = draw.integers(0, 256, (count, 4, 4), dtype=np.uint8)
        files.append(Seed(f"{prefix}-images-idx3-ubyte", _idx(images)))
        files.append(Seed(f"{prefix}-labels-idx1-ubyte", _idx(np.arange(count, dtype=np.uint8) % 10)))
    return tuple(files)


@cache
def _cifar_files(layout: Cifar) -> tuple[Seed, ...]:
    draw = np.random.default_rng(0)
    files = []
    for name in (*layout.train, layout.test):
        records = draw.integers(0, 256, (2, layout.record), dtype=np.uint8)
        records[:, layout.label_bytes - 1] = (0, layout.classes - 1)
        files.append(Seed(name, records.tobytes()))
    names = "".join(f"class {number}\n" for number in range(layout.classes))
    return (*files, Seed(layout.names, names.encode()))


@cache
def _picture(seed: int, kind: str, mode: str) -> bytes:
    from PIL import Image

    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    packed = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(packed, kind)
    return packed.getvalue()


@cache
def _images() -> tuple[Seed, ...]:
    found = []
    for ending, kind, mode in (
        ("png", "PNG", "RGB"),
        ("jpg", "JPEG", "RGB"),
        ("bmp", "BMP", "RGB"),
        ("tif", "TIFF", "RGB"),
        ("webp", "WEBP", "RGB"),
        ("ppm", "PPM", "RGB"),
        ("png", "PNG", "P"),
        ("png", "PNG", "LA"),
        ("png", "PNG", "1"),
    ):
        found.append(Seed(f"changed.{ending}", _picture(0, kind, mode)))
    # the content decides, whatever the ending says
    return (*found, Seed("changed.png", _picture(0, "GIF", "P")))


def _beside(
    folder: Path, name: str, *, inside: Callable[[Path], Path], files: Callable[[], tuple[Seed, ...]]
) -> Path:
    """Write all files, and return the one that is to be changed."""
    home = inside(folder)
    home.mkdir(parents=True)
    for seed in files():
        (home / seed.name).write_bytes(seed.data)
    return home / name


def _image_folder(folder: Path, name: str) -> Path:
    for number, place in enumerate(("train/cat", "train/dog", "test/cat", "test/dog")):
        (folder / place).mkdir(parents=True)
        for copy in range(2):  # of which one is held out for validation
            (folder / place / f"{copy}.png").write_bytes(_picture(2 * number + copy + 1, "PNG", "RGB"))
    return folder / "train" / "cat" / name


def _read(name: str, root: Path, **settings: object) -> object:
    return SOURCES[name].read(Request(root, 0.3, 0, settings))


def _cifar_target(layout: Cifar) -> Target:
    files = partial(_cifar_files, layout)
    return Target(
        name=layout.name,
        seeds=files,
        place=partial(_beside, inside=lambda folder: folder / layout.folder, files=files),
        read=lambda path: _read(layout.name, path.parents[1]),
        refusals=(DataError,),
        mutate=mutate_bytes,
    )


TARGETS = (
    Target(
        name="idx",
        seeds=_mnist_files,
        place=partial(_beside, inside=folder, files=_mnist_files),
        read=lambda path: _read("mnist", path.parents[2]),
        refusals=(DataError,),
        mutate=mutate_bytes,
    ),
    _cifar_target(CIFAR10),
    _cifar_target(CIFAR100),
    Target(
        name="images",
        seeds=_images,
        place=_image_folder,
        read=lambda path: _read("imagefolder", path.parents[2], path=path.parents[2]),
        refusals=(DataError,),
        mutate=mutate_bytes,
    ),
)
