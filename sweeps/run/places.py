"""Where a sweep's data were: kept in its directory, to continue from any folder without options."""

import contextlib
import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from arsvd.data import DataError, Dataset
from arsvd.data.roots import absolute, data_root
from arsvd.json_fields import read_json
from sweeps.config import SweepConfig
from sweeps.config.on_record import RECORD_VERSION
from sweeps.ledger.ledger import Ledger
from sweeps.ledger.records import without_version
from sweeps.ledger.storage import StorageError
from sweeps.run.data import load_dataset

PLACE = "data.json"


@dataclass(frozen=True)
class DataPlace:
    """The place where a sweep's data were found.

    Attributes:
        root: data directory, an absolute path.
        folder: folder of images, an absolute path; None for other data sets.
        said: folder of images as the sweep file has it.
    """

    root: str
    folder: str | None = None
    said: str | None = None

    @classmethod
    def of(cls, config: SweepConfig, data_dir: Path | None = None) -> "DataPlace":
        """Say where a configuration's data are looked for.

        Raises:
            DataError: the place is in the home of a user who does not exist.
        """
        path = config.dataset.path
        return cls(str(data_root(data_dir)), None if path is None else str(absolute(path)), path)

    def write(self, ledger: Ledger) -> None:
        """Keep the place in a sweep's directory.

        Raises:
            StorageError: the file cannot be written.
        """
        ledger.storage.write(PLACE, json.dumps({"version": RECORD_VERSION, **asdict(self)}).encode())

    @classmethod
    def read(cls, ledger: Ledger) -> "DataPlace | None":
        """Read the place; None where none was kept, as by an earlier version, or where it is invalid."""
        with contextlib.suppress(FileNotFoundError, StorageError, ValueError):
            values = without_version(read_json(ledger.storage.read(PLACE)), "place of data")
            root, folder = values.get("root"), values.get("folder")
            if _is_place(root) and (folder is None or _is_place(folder)):
                return cls(str(root), folder, values.get("said"))
        return None


def find_data(ledger: Ledger, config: SweepConfig, data_dir: Path | None = None) -> tuple[Dataset, DataPlace]:
    """Load the data set of a sweep on file from where it is now.

    Args:
        ledger: directory of the sweep.
        config: configuration of the sweep, with or without changes.
        data_dir: folder that holds the data sets; None for the folder where the sweep found them, and failing
            that for the default of `arsvd.data.data_root`. A folder of images that is gone is looked for
            there by its name.

    Returns:
        The data set, under the name that the sweep's models have, and the place where it was found.

    Raises:
        DataError: the data set is in none of these places; all are named.
    """
    dataset, place = _find(ledger, config, data_dir)
    # its models keep their name, should this version name the folder differently, or should it have moved
    return replace(dataset, name=ledger.facts.dataset), place


def _find(ledger: Ledger, config: SweepConfig, data_dir: Path | None) -> tuple[Dataset, DataPlace]:
    known = DataPlace.read(ledger)
    if config.dataset.path is not None:
        place = _folder(ledger, config, known, data_dir)
        # the path in the sweep file may be relative to another folder
        return load_dataset(config.replaced({"dataset.path": place.folder}), data_dir), place
    place = DataPlace.of(config, data_dir)
    if known is None or data_dir is not None or known.root == place.root:
        return load_dataset(config, data_dir), place
    try:
        return load_dataset(config, Path(known.root)), known
    except DataError as there:
        try:
            return load_dataset(config, data_dir), place
        except DataError as here:
            raise DataError(
                f"sweep {ledger.facts.id} was run on data in {known.root}, where they are no more; they are "
                f"not in {place.root} either. Say where with --data-dir.\n{there}\n{here}"
            ) from here


def _folder(ledger: Ledger, config: SweepConfig, known: DataPlace | None, data_dir: Path | None) -> DataPlace:
    """Find a folder of images: where it was, where the sweep file says, or by its name among data sets."""
    place = DataPlace.of(config, data_dir)
    tried = [str(place.folder)]
    if known is not None and known.folder is not None and known.said == place.said:
        tried.insert(0, known.folder)
    tried = list(dict.fromkeys([*tried, str(Path(place.root) / Path(tried[0]).name)]))
    for folder in tried:
        if os.path.isdir(folder):
            return replace(place, folder=folder)
    raise DataError(
        f"sweep {ledger.facts.id} was run on the images in {tried[0]}, where they are no more; looked in "
        f"{', '.join(tried[1:])} too. Say where they are: arsvd resume {ledger.facts.id} dataset.path=FOLDER"
    )


def _is_place(value: object) -> bool:
    return isinstance(value, str) and "\0" not in value and os.path.isabs(value)
