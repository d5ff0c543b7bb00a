"""The data set that a sweep file names."""

import hashlib
from dataclasses import replace
from pathlib import Path

from arsvd.data import Dataset, load
from arsvd.data.roots import absolute
from arsvd.names import plain
from sweeps.config import SweepConfig


def load_dataset(config: SweepConfig, data_dir: Path | None = None) -> Dataset:
    """Load a sweep's data set, split as its configuration says, under the name that its models get.

    Args:
        config: checked configuration.
        data_dir: folder that holds the data sets; see `arsvd.data.data_root`.

    Raises:
        DataError: the data is missing, broken or too small.
    """
    wanted = config.dataset
    dataset = load(
        wanted.name,
        root=data_dir,
        path=wanted.path,
        validation=wanted.validation,
        confirmation=wanted.confirmation,
        seed=wanted.seed,
        size=wanted.size,
        **({} if wanted.test is None else {"test": wanted.test}),
    )
    if wanted.label is not None:
        return replace(dataset, name=wanted.label, origin="")
    if wanted.path is None:
        return replace(dataset, origin=wanted.name)
    # folders are many: models are registered under the folder's name, not under "imagefolder"
    folder = absolute(wanted.path).resolve()
    name = plain(folder.name.lower(), kept="").strip("-")
    # the path itself should not leave this machine
    origin = hashlib.sha256(str(folder).encode("utf-8", "surrogateescape")).hexdigest()
    return replace(dataset, name=name or dataset.name, origin=origin)
