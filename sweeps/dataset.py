"""The data set that a sweep file names."""

import re
from dataclasses import replace
from pathlib import Path

from arsvd.data import Dataset, load
from sweeps.config import SweepConfig


def load_dataset(config: SweepConfig, data_dir: Path | None = None) -> Dataset:
    """Load a sweep's data set, split as its configuration says.

    Args:
        config: the checked configuration.
        data_dir: where data sets lie; see `arsvd.data.data_root`.

    Raises:
        DataError: the data is missing, broken or too small.
    """
    wanted = config.dataset
    dataset = load(
        wanted.name,
        root=data_dir,
        path=wanted.path,
        validation=wanted.validation,
        seed=wanted.seed,
        size=wanted.size,
        **({} if wanted.test is None else {"test": wanted.test}),
    )
    if wanted.path is not None:
        # folders are many: models are registered under the folder's name, not under "imagefolder"
        dataset = replace(dataset, name=_slug(Path(wanted.path).resolve().name) or dataset.name)
    return dataset


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
