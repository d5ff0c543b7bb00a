"""A store in a file that was moved or copied: it finds its files where they are now.

MLflow writes down the folder of the files of every experiment, run and model, as an absolute path. In a
folder that was moved, nothing could be loaded that way, and new files would be written to the old place.
"""

import contextlib
import os
import sqlite3
from pathlib import Path
from urllib.parse import quote, unquote

from mlflow_server.sqlite import sqlite_address
from sweeps.tracking.outages import TrackingError

_FOLDER = "artifacts"
_WAIT_SECONDS = 60.0  # for another process that writes
_PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
# Notes that tell people how to load a model say where the store is.
_NOTES = (("tags", "value"), ("experiment_tags", "value"), ("registered_models", "description"))


def artifact_folder(store: Path, experiment: str) -> str:
    """Return the address of the folder of an experiment's files, which lies beside the store.

    Args:
        store: path of the store's file.
        experiment: name of the experiment.
    """
    return (store.parent / _FOLDER / experiment).as_uri()


def follow(store: Path) -> None:
    """Correct a store's paths to those beside the file that it is in.

    Args:
        store: path of the store's file, with MLflow's tables in it.

    Raises:
        TrackingError: the store cannot be read or written.
    """
    address = f"file:{quote(str(store))}?mode=rw"
    try:
        with contextlib.closing(
            sqlite3.connect(address, uri=True, timeout=_WAIT_SECONDS, isolation_level=None)
        ) as database:
            old = _old_folders(database, store.parent)
            if not old and not _unplaced(database):
                return
            database.execute("begin immediate")
            for place in old:
                _replace(database, place / store.name, store)
            if _unplaced(database):
                # the experiment that MLflow itself creates, in the folder where the first command was run
                database.execute(
                    "update experiments set artifact_location = ? where experiment_id = 0",
                    (artifact_folder(store, "Default"),),
                )
            database.execute("commit")
    except sqlite3.Error as error:
        raise TrackingError(f"the tracking database {store} cannot be read or written ({error})") from None


def _old_folders(database: sqlite3.Connection, now: Path) -> set[Path]:
    """Return the folders that a store was in, according to experiments whose files lie as ours do."""
    found = set()
    for name, location in database.execute("select name, artifact_location from experiments"):
        folder = Path(unquote(str(location).removeprefix("file://")))
        if str(location).startswith("file:///") and folder.parts[-2:] == (_FOLDER, name):
            found.add(folder.parent.parent)
    return {place for place in found if place != now and not _same(place, now)}


def _same(one: Path, other: Path) -> bool:
    """Tell whether two paths lead to one folder, as by a link: then the recorded paths still hold."""
    with contextlib.suppress(OSError):
        return os.path.samefile(one, other)
    return False


def _unplaced(database: sqlite3.Connection) -> bool:
    query = (
        "select 1 from experiments where experiment_id = 0 and artifact_location like '%/mlruns/0' "
        "and not exists (select 1 from runs where experiment_id = 0)"
    )
    return database.execute(query).fetchone() is not None


def _replace(database: sqlite3.Connection, old: Path, new: Path) -> None:
    before, after = (f"{(store.parent / _FOLDER).as_uri()}/" for store in (old, new))
    for table, column in _PLACES:
        database.execute(
            f"update {table} set {column} = ? || substr({column}, ?) where substr({column}, 1, ?) = ?",  # noqa: S608 - named above
            (after, len(before) + 1, len(before), before),
        )
    before, after = sqlite_address(old), sqlite_address(new)
    for table, column in _NOTES:
        database.execute(
            f"update {table} set {column} = replace({column}, ?, ?) where instr({column}, ?)",  # noqa: S608 - named above
            (before, after, before),
        )
