"""The digits that scikit-learn carries in its wheel: 1,797 greyscale images of 8×8, no network needed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from arsvd.data.sources.base import DataSource, Request

if TYPE_CHECKING:
    from arsvd.data.dataset import Source

TEST_SHARE = 0.2


class Digits(DataSource):
    """The digits of scikit-learn.

    Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998.
    """

    def read(self, request: Request) -> Source:
        """Read the digits. A fixed, stratified fifth is the test split."""
        import numpy as np
        import torch
        from sklearn.datasets import load_digits

        from arsvd.data.dataset import Source, Split
        from arsvd.data.splitting import TEST_SEED, hold_out

        digits = load_digits()
        pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)
        whole = Split(torch.from_numpy(pixels[:, None]), torch.from_numpy(digits.target.astype(np.int64)))
        classes = tuple(str(name) for name in digits.target_names)
        train, test = hold_out(whole, TEST_SHARE, TEST_SEED, classes=classes, option="test")
        return Source(classes, train, test)

    def example(self, root: Path) -> Request:
        """Return a request for the digits themselves."""
        return Request(root, 100, 0, {})

    def fetch(self, root: Path) -> Path:
        """Say where the digits lie: inside scikit-learn. There is nothing to download."""
        import sklearn.datasets

        return Path(sklearn.datasets.__file__).parent / "data"


DIGITS = Digits()
