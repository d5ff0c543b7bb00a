"""Options and JSON output that several commands share."""

import json
import os
import re
from pathlib import Path
from typing import Any

import click


class _File(click.Path):
    """A file, but not a pipe or device, which might never end."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        super().convert(value, param, ctx)
        path = Path(value)
        if not path.is_file():
            self.fail(f"{path} is a pipe or a device, must be a file.", param, ctx)
        return path


def echo_json(values: Any) -> None:
    """Print JSON for scripts, with numbers rounded as everywhere else."""
    from sweeps.report.numbers import shown

    click.echo(json.dumps(shown(values)))


def known_user(context: click.Context, option: click.Parameter, value: Any) -> Any:
    """Refuse a path in the home of a user whom this machine does not know."""
    named = re.search(r"(?:^|///)(~[^/]*)", str(value or ""))
    if named and os.path.expanduser(named[1]) == named[1]:
        raise click.BadParameter(f"{named[1]} is no home of a user of this machine.", context, option)
    return value


DATA_DIR = click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of data sets; else where a sweep on file found them, else ARSVD_DATA, else ~/.cache/arsvd.",
)
EXISTING_FILE = _File(exists=True, dir_okay=False, path_type=Path)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
FORCE = click.option(
    "--force", is_flag=True, help="Take the lock of a process on another machine, if that is gone."
)
