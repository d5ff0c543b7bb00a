"""All files of a report."""

from collections.abc import Mapping
from pathlib import Path

from sweeps.ledger.records import Front
from sweeps.report.export import write_baselines_csv, write_front_csv
from sweeps.report.figure import write_figure
from sweeps.report.page import write_page


def write_report(
    folder: Path, front: Front, sweep: str, dataset: str, configuration: Mapping[str, object]
) -> list[Path]:
    """Write the report of a sweep: `front.csv`, `baselines.csv`, `front.png` and `front.html`.

    Args:
        folder: existing folder to write to. Files of an earlier report are replaced.
        front: front, with test figures where they were measured.
        sweep: id of the sweep.
        dataset: name of the data set.
        configuration: sweep file, flat.

    Returns:
        The files written.
    """
    paths = [folder / name for name in ("front.csv", "baselines.csv", "front.png", "front.html")]
    table, baselines, figure, page = paths
    heading = f"{dataset}: sweep {sweep}"
    write_front_csv(front, table)
    write_baselines_csv(front, baselines)
    write_figure(front, figure, heading)
    write_page(front, page, dataset=dataset, heading=heading, configuration=configuration)
    return paths
