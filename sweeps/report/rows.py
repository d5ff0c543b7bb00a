"""A front row by row, as every form of the report shows it."""

from collections.abc import Sequence
from dataclasses import dataclass

from arsvd.dominance import staircase_value
from sweeps.ledger.records import Front, FrontPoint
from sweeps.tracking.versions import ranks_text

OWN_FRONT = "sweep"
TIMED_BATCH = 256  # whose latency is shown where there is room for one
_TITLES = {"fixed": "fixed rank"}


@dataclass(frozen=True)
class Row:
    """One point of the front.

    Attributes:
        entry: the point.
        ratio: the reference's parameters by its own.
        dense_ratio: the best dense member's parameters by its own; None in a front of an older release.
        mac_ratio: the reference's multiplications by its own.
        best: it is the sweep's choice.
        rivals: baseline to its best validation accuracy at no more parameters; None where it has no model
            that small.
    """

    entry: FrontPoint
    ratio: float
    dense_ratio: float | None
    mac_ratio: float
    best: bool
    rivals: dict[str, float | None]

    @property
    def ranks(self) -> str:
        """The ranks as people read them."""
        return ranks_text(self.entry.point.ranks)


def rows(front: Front) -> list[Row]:
    """List a front's points by ascending size, each beside the baselines at equal parameters."""
    return [
        Row(
            entry=entry,
            ratio=front.ratio(entry.point.params),
            dense_ratio=front.dense_ratio(entry.point.params),
            mac_ratio=front.mac_ratio(entry.point.macs),
            best=entry == front.best,
            rivals={
                name: _reached(baseline.points, entry.point.params)
                for name, baseline in front.baselines.items()
            },
        )
        for entry in front.points
    ]


def title(baseline: str) -> str:
    """Return what people call a baseline."""
    return _TITLES.get(baseline, baseline)


def _reached(points: Sequence[FrontPoint], params: int) -> float | None:
    sizes = [entry.point.params for entry in points]
    return staircase_value(sizes, [entry.point.accuracy for entry in points], params)
