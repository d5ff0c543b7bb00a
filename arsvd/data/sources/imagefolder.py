"""Any directory of class folders of images; `arsvd.data.imagefolder` reads it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from arsvd.data.errors import DataError
from arsvd.data.layout import EXPECTED
from arsvd.data.sources.base import DataSource, Request
from arsvd.options import Option
from arsvd.options.kinds import Number, OrNothing, Sides, Text

if TYPE_CHECKING:
    from arsvd.data.dataset import Source

TEST_SHARE = 0.2


class ImageFolder(DataSource):
    """A directory of images of the user's own."""

    named_by_its_files: ClassVar[bool] = True
    options: ClassVar[tuple[Option[Any], ...]] = (
        Option(
            "dataset.path", Text(r"(?s).+", "the path of a folder"), "folder of class folders", absent=None
        ),
        Option(
            "dataset.size",
            OrNothing(Sides()),
            "pixels that images are resized to, one number or [height, width]; null: their own size",
            default=None,
            absent=None,
        ),
        Option(
            "dataset.test",
            Number(0, 1, low_open=True, high_open=True),
            "share held out as the test split, for a folder that has none",
            default=TEST_SHARE,
            absent=None,
        ),
    )

    def read(self, request: Request) -> Source:
        """Read a directory, each image once, and split it."""
        from arsvd.data.imagefolder import read

        settings = request.settings
        test = settings.get("test")
        return read(
            settings.get("path"),
            settings.get("size"),
            TEST_SHARE if test is None else test,
            validation=request.validation,
            seed=request.seed,
        )

    def example(self, root: Path) -> Request:
        """Write ten images of two classes."""
        import numpy as np
        from PIL import Image

        draw = np.random.default_rng(0)
        for name in ("cats", "dogs"):
            (root / name).mkdir()
            for number in range(10):
                pixels = draw.integers(0, 256, (6, 5, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / name / f"{number}.png")
        return Request(root, 4, 0, {"path": root})

    def fetch(self, root: Path) -> Path:
        """Refuse: the directory belongs to the user."""
        own = "imagefolder is not fetched: it reads your own directory, given as dataset.path=DIR."
        raise DataError(f"{own} {EXPECTED}")


IMAGEFOLDER = ImageFolder()
