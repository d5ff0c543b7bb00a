"""CIFAR-10 and CIFAR-100, from the binary files that their authors publish.

torchvision reads the authors' pickled files. This project reads no pickles: loading one can run any code.
"""

from __future__ import annotations

import os
import shutil
import tarfile
from dataclasses import dataclass
from functools import partial
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

    from arsvd.data.dataset import Source

SHAPE = (3, 32, 32)
PIXELS = 3 * 32 * 32
# The largest published file, CIFAR-100's training images, has 153,700,000.
MOST_BYTES = 200_000_000
MOST_NAMES_BYTES = 100_000


@dataclass(frozen=True)
class Cifar(DataSource):
    """One of the two published data sets; CIFAR-100 has its fine labels.

    A record is `label_bytes` labels, of which the last is the class, then 3,072 pixels: the red, green and
    blue planes, each row by row. Source: https://www.cs.toronto.edu/~kriz/cifar.html, "Binary version".
    """

    name: str
    url: str
    md5: str
    folder: str
    pickled: str
    train: tuple[str, ...]
    test: str
    names: str
    label_bytes: int
    classes: int

    @property
    def record(self) -> int:
        """Number of bytes in one record."""
        return self.label_bytes + PIXELS

    @property
    def files(self) -> tuple[str, ...]:
        """Names of all files that are read."""
        return (*self.train, self.test, self.names)

    def read(self, request: Request) -> Source:
        """Read the binary files.

        Raises:
            DataError: a file is missing, truncated or of another layout; all faults at once.
        """
        return _read(request.root, self)

    def example(self, root: Path) -> Request:
        """Write two images of each class into every file."""
        import numpy as np

        (root / self.folder).mkdir(parents=True)
        draw = np.random.default_rng(0)
        for name in (*self.train, self.test):
            labels = np.tile(np.arange(self.classes, dtype=np.uint8), 2)
            records = draw.integers(0, 256, (len(labels), self.record), dtype=np.uint8)
            records[:, self.label_bytes - 1] = labels
            (root / self.folder / name).write_bytes(records.tobytes())
        names = "".join(f"class {number}\n" for number in range(self.classes))
        (root / self.folder / self.names).write_text(names)
        return Request(root, self.classes, 0, {})

    def fetch(self, root: Path) -> Path:
        """Download the binary version, unless it is already there and whole."""

        def download(stage: Path) -> list[Path]:
            from torchvision.datasets.utils import download_url

            download_url(self.url, stage, "archive.tar.gz", self.md5)
            _unpack(stage / "archive.tar.gz", stage, self)
            return [stage / self.folder / name for name in self.files]

        return fetch_unless_whole(self.name, root, root / self.folder, partial(_read, layout=self), download)


CIFAR10 = Cifar(
    name="cifar10",
    url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    md5="c32a1d4ab5d03f1284b67883e8d87530",
    folder="cifar-10-batches-bin",
    pickled="cifar-10-batches-py",
    train=tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
    test="test_batch.bin",
    names="batches.meta.txt",
    label_bytes=1,
    classes=10,
)
CIFAR100 = Cifar(
    name="cifar100",
    url="https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
    md5="03b5dce01913d631647c71ecec9e9cb8",
    folder="cifar-100-binary",
    pickled="cifar-100-python",
    train=("train.bin",),
    test="test.bin",
    names="fine_label_names.txt",
    label_bytes=2,
    classes=100,
)


def _read(root: Path, layout: Cifar) -> Source:
    import numpy as np
    import torch

    from arsvd.data.dataset import Source, Split

    folder = root / layout.folder
    missing = [name for name in layout.files if not (folder / name).is_file()]
    if missing:
        faults = [f"{name}: is missing" for name in missing]
        _refuse(root, layout, ["the directory is missing"] if not folder.is_dir() else faults)
    faults = []
    parts: dict[str, tuple[NDArray[np.uint8], NDArray[np.int64]]] = {}
    for name in (*layout.train, layout.test):
        try:
            parts[name] = _records(folder / name, layout)
        except (OSError, DataError) as fault:
            faults.append(f"{name}: {fault}")
    classes: tuple[str, ...] = ()
    try:
        classes = _class_names(folder / layout.names, layout)
    except (OSError, DataError) as fault:
        faults.append(f"{layout.names}: {fault}")
    _refuse(root, layout, faults)
    train, test = (
        Split(
            torch.from_numpy(np.concatenate([parts[name][0] for name in names])),
            torch.from_numpy(np.concatenate([parts[name][1] for name in names])),
        )
        for names in (layout.train, (layout.test,))
    )
    return Source(classes, train, test)


def _unpack(archive: Path, stage: Path, layout: Cifar) -> None:
    """Write only the wanted files, at paths that the archive cannot choose."""
    (stage / layout.folder).mkdir()
    with tarfile.open(archive, "r:gz") as tar:
        for name in layout.files:
            info = tar.getmember(f"{layout.folder}/{name}")
            # a link could point at another file, and a few bytes can unpack to terabytes
            if not info.isreg() or info.size > MOST_BYTES:
                raise tarfile.TarError(f"{info.name} is not a file of at most {MOST_BYTES} bytes")
            member = tar.extractfile(info)
            if member is None:
                raise tarfile.TarError(f"{info.name} is not a file in {layout.url}")
            with member, (stage / layout.folder / name).open("wb") as copy:
                shutil.copyfileobj(member, copy)


def _records(path: Path, layout: Cifar) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    import numpy as np

    with open_file(path) as file:
        got = os.fstat(file.fileno()).st_size
        if got == 0:
            raise DataError("is empty")
        if got % layout.record:
            raise DataError(
                f"is truncated or not of {layout.name}: {got} bytes, expected a multiple of {layout.record} "
                f"({layout.label_bytes} of labels and {PIXELS} of pixels)"
            )
        records = np.fromfile(file, dtype=np.uint8, count=got).reshape(-1, layout.record)
    labels = records[:, layout.label_bytes - 1].astype(np.int64)
    if int(labels.max()) >= layout.classes:
        raise DataError(f"holds the label {labels.max()}; labels are 0 to {layout.classes - 1}")
    return records[:, layout.label_bytes :].reshape(-1, *SHAPE), labels


def _class_names(path: Path, layout: Cifar) -> tuple[str, ...]:
    with open_file(path) as file:
        content = file.read(MOST_NAMES_BYTES + 1)
    if len(content) > MOST_NAMES_BYTES:
        raise DataError(f"is larger than {MOST_NAMES_BYTES} bytes, which no list of class names is")
    # The published file of CIFAR-10 ends with an empty line.
    lines = content.decode("utf-8-sig", errors="replace").splitlines()
    names = tuple(line.strip() for line in lines if line.strip())
    if len(names) != layout.classes:
        raise DataError(f"holds {len(names)} class names, expected {layout.classes}, one a line")
    if strange := [name for name in names if "\ufffd" in name or not name.isprintable()]:
        raise DataError(f"is not UTF-8 text: it holds the class name {strange[0]!r}")
    if twice := [name for name in names if names.count(name) > 1]:
        raise DataError(f"holds the class name {twice[0]} twice")
    return names


def _refuse(root: Path, layout: Cifar, faults: list[str]) -> None:
    if not faults:
        return
    lines = "".join(f"\n  {fault}" for fault in faults)
    hints = ""
    if (root / layout.pickled).is_dir():
        hints += (
            f"\n{root / layout.pickled} is a pickle and is not read, because a pickle can run any code; "
            "the command below fetches the binary version."
        )
    images = root / layout.name
    if (images / "train").is_dir() and (images / "test").is_dir():
        hints += (
            f"\n{images} is an image folder, which can be used instead: "
            f"dataset.name=imagefolder dataset.path={images}"
        )
    raise DataError(
        f"{layout.name} cannot be read from {root / layout.folder}:{lines}{hints}\n"
        f"Fetch it with {fetch_command(layout.name, root)}."
    )
