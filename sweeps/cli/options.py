"""Options that several commands share."""

from pathlib import Path

import click

DATA_DIR = click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where data sets lie; else ARSVD_DATA, else ~/.cache/arsvd.",
)
EXISTING_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
FORCE = click.option(
    "--force", is_flag=True, help="Take the lock of a process on another machine, if that is gone."
)
