"""A sweep's front: the union of its members' points, the non-dominated of them, and the best."""

import itertools
from collections.abc import Iterable, Sequence

from arsvd import non_dominated
from arsvd.evaluation import OperatingPoint
from arsvd.fronts import front_hypervolume
from sweeps.records import FINISHED, Baseline, Front, FrontPoint, MemberRecord

BASELINES = ("fixed", "weight energy")


class GrowingFront:
    """A sweep's front while members are added: each costs the same, however many there are already.

    Args:
        reference: parameters and MACs of the reference model.
        max_drop: how far below the best dense validation accuracy the best point may lie.
        validation_images: images that accuracies were measured on.
    """

    def __init__(self, reference: tuple[int, int], max_drop: float, validation_images: int) -> None:
        self._reference, self._max_drop, self._images = reference, max_drop, validation_images
        self._points: tuple[FrontPoint, ...] = ()
        self._baselines: dict[str, tuple[FrontPoint, ...]] = dict.fromkeys(BASELINES, ())
        self._dense = 0.0

    def add(self, record: MemberRecord) -> None:
        """Take a member in; one that failed adds nothing."""
        if record.status != FINISHED:
            return
        self._points = _joined(self._points, record, record.points)
        for name, points in self._baselines.items():
            self._baselines[name] = _joined(points, record, record.baselines.get(name, ()))
        if record.dense is not None:
            self._dense = max(self._dense, record.dense.accuracy)

    def front(self) -> Front:
        """Return the front so far; empty where no member has finished."""
        return Front(
            points=self._points,
            hypervolume=_volume(self._points, self._reference[0]),
            baselines={
                name: Baseline(points, _volume(points, self._reference[0]))
                for name, points in self._baselines.items()
            },
            reference_params=self._reference[0],
            reference_macs=self._reference[1],
            dense_accuracy=self._dense,
            best=best_point(self._points, self._dense, self._max_drop),
            validation_images=self._images,
        )


def sweep_front(
    records: Sequence[MemberRecord],
    reference: tuple[int, int],
    max_drop: float,
    validation_images: int,
) -> Front:
    """Join the members' points into one front, with the baselines' fronts beside it.

    Args:
        records: members, failed ones among them or not.
        reference: parameters and MACs of the reference model.
        max_drop: how far below the best dense validation accuracy the best point may lie.
        validation_images: images that accuracies were measured on.

    Returns:
        The front; empty where no member has finished.
    """
    growing = GrowingFront(reference, max_drop, validation_images)
    for record in records:
        growing.add(record)
    return growing.front()


def best_point(points: Iterable[FrontPoint], dense_accuracy: float, max_drop: float) -> FrontPoint | None:
    """Return the point with the fewest parameters whose counted accuracy is within `max_drop` of dense."""
    # accuracies are counts over counts: the slack only absorbs the rounding of the subtraction
    floor = dense_accuracy - max_drop - 1e-9
    fitting = [point for point in points if point.counted >= floor]
    return min(fitting, key=lambda point: (point.point.params, -point.point.accuracy), default=None)


def reference_size(widths: Sequence[int]) -> tuple[int, int]:
    """Count parameters and MACs of a dense MLP from its widths, input and output included."""
    macs = sum(a * b for a, b in itertools.pairwise(widths))
    return macs + sum(widths[1:]), macs


def _joined(
    front: tuple[FrontPoint, ...], record: MemberRecord, points: Iterable[OperatingPoint]
) -> tuple[FrontPoint, ...]:
    listed = [*front, *(FrontPoint(record.key, record.number, point) for point in points)]
    listed.sort(key=lambda entry: (entry.point.params, -entry.point.accuracy, entry.number))
    keep = non_dominated([(entry.point.params, -entry.point.accuracy) for entry in listed])
    return tuple(entry for entry, kept in zip(listed, keep, strict=True) if kept)


def _volume(points: Iterable[FrontPoint], reference_params: int) -> float:
    return front_hypervolume(((p.point.params, p.point.accuracy) for p in points), reference_params)
