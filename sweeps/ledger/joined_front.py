"""A sweep's front: the union of its members' points, the non-dominated of them, and the best.

Everything that was measured on validation may be on the front, the baselines' points included: a model that
is the best at its size is not discarded because of the rule that found it. When a baseline is compared with
the rest of the sweep, its points are left out of the rest; otherwise no baseline could ever be ahead.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from arsvd import non_dominated
from arsvd.evaluation.evaluator import OperatingPoint
from arsvd.fronts import front_hypervolume
from sweeps.ledger.records import FINISHED, Baseline, Front, FrontPoint, MemberRecord

# points that belong to a baseline, even where another rule found them too
BASELINES: Mapping[str, Callable[[OperatingPoint], bool]] = {
    "fixed": lambda point: point.family == "fixed",
    "weight energy": lambda point: (point.family, point.basis) == ("energy", "weight"),
}


class GrowingFront:
    """A sweep's front while members are added: each costs the same, however many there are already.

    Args:
        reference: parameters and MACs of the reference model.
        max_drop: largest distance of the best point below the best dense validation accuracy.
        validation_images: number of images on which accuracies were measured.
    """

    def __init__(self, reference: tuple[int, int], max_drop: float, validation_images: int) -> None:
        self._reference, self._max_drop, self._images = reference, max_drop, validation_images
        self._points: tuple[FrontPoint, ...] = ()
        self._baselines: dict[str, tuple[FrontPoint, ...]] = dict.fromkeys(BASELINES, ())
        self._others: dict[str, tuple[FrontPoint, ...]] = dict.fromkeys(BASELINES, ())
        self._dense: FrontPoint | None = None
        self._reference_member: FrontPoint | None = None

    def add(self, record: MemberRecord) -> None:
        """Add a member; one that failed adds nothing."""
        if record.status != FINISHED:
            return
        measured = [*record.points, *(point for points in record.baselines.values() for point in points)]
        self._points = _joined(self._points, record, measured)
        for name, own in BASELINES.items():
            self._baselines[name] = _joined(self._baselines[name], record, filter(own, measured))
            self._others[name] = _joined(self._others[name], record, (p for p in measured if not own(p)))
        if record.dense is not None:
            self._add_dense(FrontPoint(record.key, record.number, record.dense), record.config.factors)

    def _add_dense(self, entry: FrontPoint, factors: int) -> None:
        # the first of equal members, in whatever order they end
        if self._dense is None or _rank(entry) < _rank(self._dense):
            self._dense = entry
        plain = factors == 1 and (entry.point.cost.numbers, entry.point.cost.macs) == self._reference
        if plain and (self._reference_member is None or entry.number < self._reference_member.number):
            self._reference_member = entry

    def front(self) -> Front:
        """Return the front so far; empty where no member has finished."""
        accuracy = 0.0 if self._dense is None else self._dense.point.accuracy
        size = self._reference[0]
        return Front(
            points=self._points,
            hypervolume=_volume(self._points, size),
            baselines={
                name: Baseline(points, _volume(points, size), _volume(self._others[name], size))
                for name, points in self._baselines.items()
            },
            reference_params=size,
            reference_macs=self._reference[1],
            dense_accuracy=accuracy,
            best=best_point(self._points, accuracy, self._max_drop),
            validation_images=self._images,
            dense=self._dense,
            reference=self._reference_member,
        )


def sweep_front(
    records: Sequence[MemberRecord],
    reference: tuple[int, int],
    max_drop: float,
    validation_images: int,
) -> Front:
    """Join the members' points into one front, with the baselines' fronts beside it.

    Args:
        records: members, including any that failed.
        reference: parameters and MACs of the reference model.
        max_drop: largest distance of the best point below the best dense validation accuracy.
        validation_images: number of images on which accuracies were measured.

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
    return min(fitting, key=lambda point: (point.point.cost.numbers, -point.point.accuracy), default=None)


@dataclass(frozen=True)
class Network:
    """One of the networks that a front is read by: those it is compared with, and those that were chosen.

    Attributes:
        name: name for people.
        params: number of parameters stored.
        ratio: number of the reference's parameters divided by its own.
        dense_ratio: number of the best dense member's parameters divided by its own; None where it is not
            known.
        validation: accuracy on validation, in [0, 1]; None where it was not trained.
        test: accuracy on test, in [0, 1]; None where it was not measured.
    """

    name: str
    params: int
    ratio: float
    dense_ratio: float | None
    validation: float | None
    test: float | None


def networks(front: Front, ends: bool = False) -> list[Network]:
    """List the reference, the best dense member and the best model, each with size and accuracies.

    Ratios of one model differ by what they are relative to, so both are always given.

    Args:
        front: front to describe.
        ends: True to list the smallest and the most accurate model of the front too.
    """

    def network(name: str, params: int, validation: float | None, entry: FrontPoint | None) -> Network:
        test = None if entry is None or entry.test is None else entry.test.accuracy
        return Network(name, params, front.ratio(params), front.dense_ratio(params), validation, test)

    trained = None if front.reference is None else front.reference.point.accuracy
    listed = [network("reference", front.reference_params, trained, front.reference)]
    entries = {"best dense": front.dense, "best": front.best}
    if ends and front.points:
        entries |= {"smallest": front.points[0], "most accurate": front.points[-1]}
    for name, entry in entries.items():
        if entry is not None:
            listed.append(network(name, entry.point.cost.numbers, entry.point.accuracy, entry))
    return listed


def lead(front: Front, name: str) -> float | None:
    """Return how far a baseline's hypervolume is above that of everything else that the sweep measured.

    Its own points are left out of the other side, or it could never be ahead. None for a front of an older
    release, which does not hold this.
    """
    baseline = front.baselines[name]
    return None if baseline.others_hypervolume is None else baseline.hypervolume - baseline.others_hypervolume


def reference_size(widths: Sequence[int]) -> tuple[int, int]:
    """Count parameters and MACs of a dense MLP from its widths, input and output included."""
    macs = sum(a * b for a, b in itertools.pairwise(widths))
    return macs + sum(widths[1:]), macs


def _rank(entry: FrontPoint) -> tuple[float, int]:
    return -entry.point.accuracy, entry.number


def _joined(
    front: tuple[FrontPoint, ...], record: MemberRecord, points: Iterable[OperatingPoint]
) -> tuple[FrontPoint, ...]:
    listed = [*front, *(FrontPoint(record.key, record.number, point) for point in points)]
    listed.sort(key=lambda entry: (entry.point.cost.numbers, -entry.point.accuracy, entry.number))
    keep = non_dominated([(entry.point.cost.numbers, -entry.point.accuracy) for entry in listed])
    return tuple(entry for entry, kept in zip(listed, keep, strict=True) if kept)


def _volume(points: Iterable[FrontPoint], reference_params: int) -> float:
    return front_hypervolume(((p.point.cost.numbers, p.point.accuracy) for p in points), reference_params)
