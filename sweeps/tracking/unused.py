"""Commands that fail before they have anything to write leave no store behind."""

import contextlib
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from sweeps.tracking.connection import LOCK, STORE, sweeps_home

_HOLDS = (
    "select 1 from experiments where experiment_id != 0 union all select 1 from runs "
    "union all select 1 from registered_models limit 1"
)


@contextmanager
def no_unused_store() -> Iterator[None]:
    """Remove an embedded store if the block ends with an error and put nothing into it.

    A store that was there before stays.
    """
    home = sweeps_home()
    if not isinstance(home, Path) or (home / STORE).exists():
        yield
        return
    made = not home.exists()
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError, sqlite3.Error):
            _remove(home, made)
        raise


def _remove(home: Path, made: bool) -> None:
    store = home / STORE
    if store.exists():
        with contextlib.closing(sqlite3.connect(f"file:{quote(str(store))}?mode=ro", uri=True)) as database:
            if database.execute(_HOLDS).fetchone():
                return
        store.unlink()
    (home / LOCK).unlink(missing_ok=True)
    if made:
        home.rmdir()  # not where a sweep's folder is in it
