"""What a sweep found, for people: tables, files, a figure and an interactive page."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweeps.report.files import write_report

__all__ = ["write_report"]


def __getattr__(name: str) -> Any:
    # tables are printed by commands that answer at once; matplotlib and plotly are only for the files
    if name == "write_report":
        from sweeps.report.files import write_report

        return write_report
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
