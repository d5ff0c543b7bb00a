"""The results of a sweep, for people: tables, files, a figure and an interactive page."""

from typing import TYPE_CHECKING

from arsvd.lazy import lazy_names

if TYPE_CHECKING:
    from sweeps.report.files import write_report

__all__ = ["write_report"]


# tables are printed by commands that answer at once; matplotlib and plotly are only for the files
__getattr__ = lazy_names(__name__, {"files": ("write_report",)})
