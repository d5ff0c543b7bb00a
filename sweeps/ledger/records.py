"""The records of a sweep: its facts, its members, its front. JSON-able, versioned, without behaviour."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any

from arsvd import OperatingPoint
from arsvd.evaluation.latency import Latency
from arsvd.json_fields import SINCE, Count, Share, Size, read_fields
from sweeps.config import MemberConfig
from sweeps.config.on_record import RECORD_VERSION

FINISHED, FAILED = "finished", "failed"
RECOVERED = "recovered"  # the family of fine-tuned points
JOURNAL = "study.journal"


class NewerVersionError(ValueError):
    """The values have the version of a newer release; nothing in them is damaged."""


@dataclass(frozen=True)
class SweepFacts:
    """The identity of a sweep.

    Attributes:
        id: name of the sweep, with the time of its start and a random part.
        dataset: name of the data set.
        data_hash: content hash of the data set.
        reference: parameters and MACs of the reference model.
        validation_images: number of images on which choices are made.
        began: ISO 8601 time in UTC.
        study: place of the Optuna study in release 0.1.0: the journal, or a database's address without
            credentials.
        version: version of records when the sweep began, which decides its members' keys; see
            `MemberConfig.key`.
    """

    id: str
    dataset: str
    data_hash: str
    reference: tuple[Count, Size]
    validation_images: Size
    began: str
    study: str = JOURNAL
    version: Count = RECORD_VERSION

    def to_dict(self) -> dict[str, Any]:
        """Return the facts as JSON-able values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "SweepFacts":
        """Rebuild the facts; what an earlier version did not hold gets its default.

        Raises:
            NewerVersionError: the values are of a newer version.
            ValueError: the values have no version or are incomplete.
        """
        check_version(values, "sweep")
        facts = read_fields(cls, values, "not a whole sweep", defaults=True)
        try:
            datetime.fromisoformat(facts.began).timestamp()
        except (ValueError, OverflowError):
            raise ValueError(f"not a whole sweep: began got {facts.began!r}, must be a time") from None
        return facts


@dataclass(frozen=True)
class MemberRecord:
    """One trained member.

    Attributes:
        key: hash of data, configuration and seed.
        number: number of its Optuna trial.
        status: "finished" or "failed".
        cause: reason of the failure; None where it did not fail.
        config: configuration of its training.
        curves: "train_loss", "validation_loss", "validation_accuracy", "lr", each with one value per epoch.
        dense: trained model without compression; None where it failed.
        asked: operating point at the rule and threshold that Optuna asked for.
        points: distinct operating points measured, recovered ones included.
        baselines: points of the baseline rules "fixed" and "weight energy", which never join the front.
        seconds: wall time of "train", "spectra", "evaluate", "recover".
        weights_sha256: hash of the weights file; "" where it failed.
    """

    key: str
    number: Size
    status: str
    cause: str | None
    config: MemberConfig
    curves: dict[str, list[float]] = field(default_factory=dict)
    dense: OperatingPoint | None = None
    asked: OperatingPoint | None = None
    points: tuple[OperatingPoint, ...] = ()
    baselines: dict[str, tuple[OperatingPoint, ...]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    weights_sha256: str = ""

    def with_weights(self, sha256: str) -> "MemberRecord":
        """Return the record with the hash of its weights file."""
        return replace(self, weights_sha256=sha256)

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON-able values."""
        return {
            "version": RECORD_VERSION,
            "key": self.key,
            "number": self.number,
            "status": self.status,
            "cause": self.cause,
            "config": self.config.to_dict(),
            "curves": self.curves,
            "dense": None if self.dense is None else self.dense.to_dict(),
            "asked": None if self.asked is None else self.asked.to_dict(),
            "points": [point.to_dict() for point in self.points],
            "baselines": {name: [p.to_dict() for p in points] for name, points in self.baselines.items()},
            "seconds": self.seconds,
            "weights_sha256": self.weights_sha256,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "MemberRecord":
        """Rebuild a record.

        Raises:
            NewerVersionError: the values are of a newer version.
            ValueError: the values have no version or are not a whole record.
        """
        record = read_fields(cls, without_version(values, "member record"), "not a whole member record")
        if record.status not in (FINISHED, FAILED):
            raise ValueError(f"a member is {FINISHED} or {FAILED}, got the status {record.status!r}")
        return record


@dataclass(frozen=True)
class TestMetrics:
    """Results of a model of the final front on the test split, measured once."""

    __test__ = False  # pytest takes classes named Test… for tests

    accuracy: Share
    macro_f1: float
    loss: float


@dataclass(frozen=True)
class FrontPoint:
    """A point of a sweep's front, and the member that it comes from.

    Attributes:
        key: key of the member.
        number: number of the member's Optuna trial.
        point: sizes, and results on validation.
        test: results on test; for the final front only.
        assured: validation accuracy that holds at `select.confidence`: the best dense one minus the bound of
            the drop. For the final front only; None where no confidence is requested.
        latency: latencies measured beside the best dense member, one entry per batch size; for the final
            front only.
    """

    key: str
    number: Size
    point: OperatingPoint
    test: TestMetrics | None = None
    assured: float | None = None
    latency: tuple[Latency, ...] = ()

    @property
    def counted(self) -> float:
        """Validation accuracy to which `select.max_drop` applies."""
        return self.point.accuracy if self.assured is None else self.assured

    def latency_at(self, batch: int) -> Latency | None:
        """Return the latency at a batch size; None where it was not measured."""
        return next((latency for latency in self.latency if latency.batch == batch), None)

    def with_test(self, test: TestMetrics) -> "FrontPoint":
        """Return the point with its test figures."""
        return replace(self, test=test)

    def to_dict(self) -> dict[str, Any]:
        """Return the point as JSON-able values."""
        test = None if self.test is None else asdict(self.test)
        return {
            "key": self.key,
            "number": self.number,
            "point": self.point.to_dict(),
            "test": test,
            "assured": self.assured,
            "latency": [latency.to_dict() for latency in self.latency],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "FrontPoint":
        """Rebuild a point from `to_dict`.

        Raises:
            ValueError: a field is missing, unknown or of another type.
        """
        return read_fields(cls, values, "not a whole front point")


@dataclass(frozen=True)
class Baseline:
    """The front of a rule that this project is compared with, over the same trained members.

    Attributes:
        points: points by ascending number of parameters; never with test figures.
        hypervolume: hypervolume in [0, 1], see `arsvd.fronts.front_hypervolume`.
        others_hypervolume: hypervolume of everything that the sweep measured except this baseline's own
            points, with which the baseline is compared; None in a front of an older release.
    """

    points: tuple[FrontPoint, ...]
    hypervolume: float
    others_hypervolume: float | None = field(default=None, metadata={SINCE: "0.2.0"})


@dataclass(frozen=True)
class Front:
    """A sweep's front.

    Attributes:
        points: points by ascending number of parameters, and so by ascending validation accuracy.
        hypervolume: hypervolume in [0, 1], see `arsvd.fronts.front_hypervolume`.
        baselines: fronts of the rules "fixed" and "weight energy".
        reference_params: number of parameters that the reference model stores.
        reference_macs: number of multiplications of the reference model per input row.
        dense_accuracy: validation accuracy of the best dense member.
        best: point with the fewest parameters within `select.max_drop` of `dense_accuracy`.
        validation_images: number of images that validation accuracies come from.
        confidence: confidence of the points' `assured`; None where there are none.
        test_images: number of images that test accuracies come from; 0 where none were measured.
        confirmation_images: number of images, which no choice has seen, that `assured` comes from; 0 where it
            comes from the validation images.
        dense: best dense member, from which drops are counted; None in a front of an older release.
        reference: member with the reference's shape, plainly trained; None where there is none.
    """

    points: tuple[FrontPoint, ...]
    hypervolume: float
    baselines: dict[str, Baseline]
    reference_params: Count
    reference_macs: Size
    dense_accuracy: Share
    best: FrontPoint | None
    validation_images: Size = 0
    confidence: Share | None = None
    test_images: Size = field(default=0, metadata={SINCE: "0.2.0"})
    confirmation_images: Size = field(default=0, metadata={SINCE: "0.2.0"})
    dense: FrontPoint | None = field(default=None, metadata={SINCE: "0.2.0"})
    reference: FrontPoint | None = field(default=None, metadata={SINCE: "0.2.0"})

    def ratio(self, params: int) -> float:
        """Return the number of the reference's parameters divided by that of a network."""
        return self.reference_params / params

    def dense_ratio(self, params: int) -> float | None:
        """Return the best dense member's parameters divided by a network's; None where they are not known."""
        return None if self.dense is None else self.dense.point.cost.numbers / params

    def mac_ratio(self, macs: int) -> float:
        """Return the reference's multiplications divided by those of a network, which may have none."""
        return self.reference_macs / max(1, macs)

    def to_dict(self) -> dict[str, Any]:
        """Return the front as JSON-able values."""
        return {
            "version": RECORD_VERSION,
            "points": [point.to_dict() for point in self.points],
            "hypervolume": self.hypervolume,
            "baselines": {
                name: {
                    "points": [point.to_dict() for point in b.points],
                    "hypervolume": b.hypervolume,
                    "others_hypervolume": b.others_hypervolume,
                }
                for name, b in self.baselines.items()
            },
            "reference_params": self.reference_params,
            "reference_macs": self.reference_macs,
            "dense_accuracy": self.dense_accuracy,
            "best": None if self.best is None else self.points.index(self.best),
            "validation_images": self.validation_images,
            "confidence": self.confidence,
            "test_images": self.test_images,
            "confirmation_images": self.confirmation_images,
            "dense": None if self.dense is None else self.dense.to_dict(),
            "reference": None if self.reference is None else self.reference.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Front":
        """Rebuild a front.

        Raises:
            NewerVersionError: the values are of a newer version.
            ValueError: the values have no version or are not a whole front.
        """
        given = without_version(values, "front")
        place = given.get("best")
        # a file gives the best as the position of one of the points
        front = read_fields(cls, {**given, "best": None} if "best" in given else given, "not a whole front")
        if place is None:
            return front
        if type(place) is not int or not 0 <= place < len(front.points):
            raise ValueError(f"not a whole front: best got {place!r}, must be the place of one of its points")
        return replace(front, best=front.points[place])


def check_version(values: Mapping[str, Any], what: str) -> None:
    """Refuse JSON of a version that this release cannot read.

    Raises:
        NewerVersionError: the values are of a newer version.
        ValueError: the values have no version.
    """
    version = values.get("version") if isinstance(values, Mapping) else None
    if type(version) is not int or version < 1:
        raise ValueError(f"a {what} of version 1 to {RECORD_VERSION} is needed, got version {version!r}")
    if version > RECORD_VERSION:
        raise NewerVersionError(
            f"a {what} of version {version}, written by a newer release than this one, which reads versions "
            f"up to {RECORD_VERSION}: use that release, or a later one"
        )


def without_version(values: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Return a record's fields, once its version is known to be one that this release reads.

    Raises:
        NewerVersionError: the values are of a newer version.
        ValueError: they have no version.
    """
    check_version(values, what)
    return {key: value for key, value in values.items() if key != "version"}
