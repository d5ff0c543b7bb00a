"""A front row by row, as every form of the report shows it."""

from collections.abc import Sequence
from dataclasses import dataclass

from arsvd.dominance import staircase_value
from sweeps.ledger.records import Front, FrontPoint
from sweeps.tracking.versions import ranks_text

OWN_FRONT = "sweep"
TIMED_BATCH = 256  # shown where there is room for the latency of one batch size
_TITLES = {"fixed": "fixed rank"}


@dataclass(frozen=True)
class Row:
    """One point of the front.

    Attributes:
        entry: point of the front.
        ratio: number of the reference's parameters divided by its own.
        dense_ratio: number of the best dense member's parameters divided by its own; None in a front of an
            older release.
        mac_ratio: number of the reference's multiplications divided by its own.
        best: True if it is the sweep's choice.
        rivals: best validation accuracy with no more parameters, by baseline; None where a baseline has no
            model that small.
    """

    entry: FrontPoint
    ratio: float
    dense_ratio: float | None
    mac_ratio: float
    best: bool
    rivals: dict[str, float | None]

    @property
    def ranks(self) -> str:
        """Ranks as people read them."""
        return ranks_text(self.entry.point.choices)


def rows(front: Front) -> list[Row]:
    """List a front's points by ascending size, each beside the baselines at equal parameters."""
    return [
        Row(
            entry=entry,
            ratio=front.ratio(entry.point.cost.numbers),
            dense_ratio=front.dense_ratio(entry.point.cost.numbers),
            mac_ratio=front.mac_ratio(entry.point.cost.macs),
            best=entry == front.best,
            rivals={
                name: _reached(baseline.points, entry.point.cost.numbers)
                for name, baseline in front.baselines.items()
            },
        )
        for entry in front.points
    ]


def title(baseline: str) -> str:
    """Return the name of a baseline for people."""
    return _TITLES.get(baseline, baseline)


def _reached(points: Sequence[FrontPoint], params: int) -> float | None:
    sizes = [entry.point.cost.numbers for entry in points]
    return staircase_value(sizes, [entry.point.accuracy for entry in points], params)
