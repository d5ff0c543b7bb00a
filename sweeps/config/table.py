"""The keys of a sweep file as a table for the documentation."""

from typing import Any

from arsvd.options import Option
from sweeps.config.loading import written
from sweeps.config.options import options


def keys_table() -> str:
    """Return every key in Markdown: its meaning, its allowed values, and its default."""
    rows = [_row(option) for option in options().values()]
    return "\n".join(["| key | meaning | value | left out |", "| --- | --- | --- | --- |", *rows])


def _row(option: Option[Any]) -> str:
    default = "must be given" if option.required else f"`{written(option.default)}`".replace("'", "")
    cells = (f"`{option.key}`", option.help, option.check.allowed, default.replace("None", "null"))
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"
