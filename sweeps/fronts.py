"""A sweep's front: the union of its members' points, the non-dominated of them, and the best."""

import itertools
from collections.abc import Iterable, Sequence

from arsvd import non_dominated
from arsvd.evaluation import OperatingPoint
from arsvd.fronts import front_hypervolume
from sweeps.records import FINISHED, Baseline, Front, FrontPoint, MemberRecord

BASELINES = ("fixed", "weight energy")


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
    done = [record for record in records if record.status == FINISHED]
    points = _non_dominated([(record, record.points) for record in done])
    dense = max((record.dense.accuracy for record in done if record.dense is not None), default=0.0)
    fronts = {name: _non_dominated([(r, r.baselines.get(name, ())) for r in done]) for name in BASELINES}
    baselines = {name: Baseline(found, _volume(found, reference[0])) for name, found in fronts.items()}
    return Front(
        points=points,
        hypervolume=_volume(points, reference[0]),
        baselines=baselines,
        reference_params=reference[0],
        reference_macs=reference[1],
        dense_accuracy=dense,
        best=best_point(points, dense, max_drop),
        validation_images=validation_images,
    )


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


def _non_dominated(
    found: Iterable[tuple[MemberRecord, Iterable[OperatingPoint]]],
) -> tuple[FrontPoint, ...]:
    listed = [FrontPoint(record.key, record.number, point) for record, points in found for point in points]
    listed.sort(key=lambda entry: (entry.point.params, -entry.point.accuracy, entry.number))
    keep = non_dominated([(entry.point.params, -entry.point.accuracy) for entry in listed])
    return tuple(entry for entry, kept in zip(listed, keep, strict=True) if kept)


def _volume(points: Iterable[FrontPoint], reference_params: int) -> float:
    return front_hypervolume(((p.point.params, p.point.accuracy) for p in points), reference_params)
