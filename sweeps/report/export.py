"""The front as CSV files for other programs."""

import csv
from pathlib import Path
from typing import Any

from arsvd.evaluation.latency import BATCHES
from sweeps.ledger.records import Front, FrontPoint
from sweeps.report.numbers import shown
from sweeps.report.rows import OWN_FRONT, title
from sweeps.tracking.versions import ranks_text

# of each batch size, by the field of Latency
_LATENCY = {
    "latency_batch{}_us": "median_us",
    "latency_batch{}_p95_us": "p95_us",
    "dense_batch{}_us": "dense_median_us",
    "dense_batch{}_p95_us": "dense_p95_us",
    "speedup_batch{}": "speedup",
}
COLUMNS = (
    "front",
    "best",
    "member",
    "trial",
    "params",
    "bits",
    "ratio",
    "dense_ratio",
    "macs",
    "mac_ratio",
    "validation_accuracy",
    "validation_macro_f1",
    "validation_loss",
    "assured_accuracy",
    "test_accuracy",
    "test_macro_f1",
    "test_loss",
    *(name.format(batch) for batch in BATCHES for name in _LATENCY),
    "latency_device",
    "latency_threads",
    "ranks",
    "threshold",
    "family",
    "basis",
)


def write_front_csv(front: Front, path: Path) -> None:
    """Write a front as CSV: a header, then one row per point by ascending size.

    Args:
        front: front to write.
        path: path of the file; replaced where it exists.
    """
    _write(path, [_record(front, OWN_FRONT, entry) for entry in front.points])


def write_baselines_csv(front: Front, path: Path) -> None:
    """Write the baselines of a front as CSV, in the columns of `write_front_csv`.

    Args:
        front: front whose baselines are written.
        path: path of the file; replaced where it exists.
    """
    _write(
        path,
        [
            _record(front, title(name), entry)
            for name, baseline in front.baselines.items()
            for entry in baseline.points
        ],
    )


def _write(path: Path, records: list[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(shown(records))


def _record(front: Front, name: str, entry: FrontPoint) -> dict[str, Any]:
    point, test = entry.point, entry.test
    return {
        "front": name,
        "best": int(name == OWN_FRONT and entry == front.best),
        "member": entry.key,
        "trial": entry.number,
        "params": point.cost.numbers,
        "bits": point.cost.bits,
        "ratio": front.ratio(point.cost.numbers),
        "dense_ratio": front.dense_ratio(point.cost.numbers),
        "macs": point.cost.macs,
        "mac_ratio": front.mac_ratio(point.cost.macs),
        "validation_accuracy": point.accuracy,
        "validation_macro_f1": point.macro_f1,
        "validation_loss": point.loss,
        "assured_accuracy": entry.assured,
        "test_accuracy": None if test is None else test.accuracy,
        "test_macro_f1": None if test is None else test.macro_f1,
        "test_loss": None if test is None else test.loss,
        **{
            name.format(latency.batch): getattr(latency, field)
            for latency in map(entry.latency_at, BATCHES)
            if latency is not None
            for name, field in _LATENCY.items()
        },
        "latency_device": entry.latency[0].device if entry.latency else None,
        "latency_threads": entry.latency[0].threads if entry.latency else None,
        "ranks": ranks_text(point.choices),
        "threshold": point.threshold,
        "family": point.family,
        "basis": point.basis,
    }
