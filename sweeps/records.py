"""What a sweep knows: records of its members, and its front. JSON-able, versioned, without behaviour."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from arsvd import OperatingPoint
from arsvd.latency import Latency
from sweeps.config import MemberConfig

RECORD_VERSION = 1
FINISHED, FAILED = "finished", "failed"


@dataclass(frozen=True)
class MemberRecord:
    """One trained member.

    Attributes:
        key: hash of data, configuration and seed.
        number: its Optuna trial number.
        status: "finished" or "failed".
        cause: why it failed; None where it did not.
        config: how it was trained.
        curves: "train_loss", "validation_loss", "validation_accuracy", "lr": one value an epoch.
        dense: the trained model without compression; None where it failed.
        asked: the operating point at the rule and threshold that Optuna asked for.
        points: the distinct operating points measured, recovered ones included.
        baselines: "fixed" and "weight energy" to the points of these rules, which never join the front.
        seconds: wall time of "train", "spectra", "evaluate", "recover".
        weights_sha256: of the weights file; "" where it failed.
    """

    key: str
    number: int
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
            ValueError: the values are of another version or not a whole record.
        """
        check_version(values, "member record")
        given = whole_fields(cls, values, "member record")
        if given["status"] not in (FINISHED, FAILED):
            raise ValueError(f"a member is {FINISHED} or {FAILED}, got the status {given['status']!r}")
        try:
            given["config"] = MemberConfig.from_dict(given["config"])
            for name in ("dense", "asked"):
                given[name] = None if given[name] is None else OperatingPoint.from_dict(given[name])
            given["points"] = tuple(OperatingPoint.from_dict(point) for point in given["points"])
            given["baselines"] = {
                name: tuple(OperatingPoint.from_dict(point) for point in points)
                for name, points in given["baselines"].items()
            }
            return cls(**given)
        except (TypeError, AttributeError) as error:
            raise ValueError(f"not a whole member record: {error!r}") from error


@dataclass(frozen=True)
class TestMetrics:
    """What a model of the final front reaches on the test split, measured once."""

    __test__ = False  # pytest takes classes named Test… for tests

    accuracy: float
    macro_f1: float
    loss: float


@dataclass(frozen=True)
class FrontPoint:
    """A point of a sweep's front, and the member that it comes from.

    Attributes:
        key: the member's key.
        number: the member's Optuna trial number.
        point: sizes, and what it reaches on validation.
        test: for the final front only.
        assured: the validation accuracy that holds at `select.confidence`: the best dense one less the bound
            of the drop. For the final front only, None where no confidence is asked for.
        latency: beside the best dense member, one entry a batch; for the final front only.
    """

    key: str
    number: int
    point: OperatingPoint
    test: TestMetrics | None = None
    assured: float | None = None
    latency: tuple[Latency, ...] = ()

    @property
    def counted(self) -> float:
        """The validation accuracy that `select.max_drop` is held against."""
        return self.point.accuracy if self.assured is None else self.assured

    def latency_at(self, batch: int) -> Latency | None:
        """Return what was measured at a batch; None where nothing was."""
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
            ValueError: a field is missing or unknown.
        """
        given = whole_fields(cls, values, "front point")
        latency = tuple(Latency.from_dict(entry) for entry in given["latency"])
        test = None if given["test"] is None else TestMetrics(**given["test"])
        point = OperatingPoint.from_dict(given["point"])
        return cls(given["key"], given["number"], point, test, given["assured"], latency)


@dataclass(frozen=True)
class Baseline:
    """The front of a rule that this project is held against, over the same trained members.

    Attributes:
        points: by ascending number of parameters; never with test figures.
        hypervolume: in [0, 1], see `arsvd.fronts.front_hypervolume`.
    """

    points: tuple[FrontPoint, ...]
    hypervolume: float


@dataclass(frozen=True)
class Front:
    """A sweep's front.

    Attributes:
        points: by ascending number of parameters, and so by ascending validation accuracy.
        hypervolume: in [0, 1], see `arsvd.fronts.front_hypervolume`.
        baselines: "fixed" and "weight energy".
        reference_params: numbers that the reference model stores.
        reference_macs: its multiplications an input row.
        dense_accuracy: the best dense member's validation accuracy.
        best: the fewest parameters within `select.max_drop` of it.
        validation_images: how many images validation accuracies come from.
        confidence: of the points' `assured`; None where there are none.
    """

    points: tuple[FrontPoint, ...]
    hypervolume: float
    baselines: dict[str, Baseline]
    reference_params: int
    reference_macs: int
    dense_accuracy: float
    best: FrontPoint | None
    validation_images: int = 0
    confidence: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the front as JSON-able values."""
        return {
            "version": RECORD_VERSION,
            "points": [point.to_dict() for point in self.points],
            "hypervolume": self.hypervolume,
            "baselines": {
                name: {"points": [point.to_dict() for point in b.points], "hypervolume": b.hypervolume}
                for name, b in self.baselines.items()
            },
            "reference_params": self.reference_params,
            "reference_macs": self.reference_macs,
            "dense_accuracy": self.dense_accuracy,
            "best": None if self.best is None else self.points.index(self.best),
            "validation_images": self.validation_images,
            "confidence": self.confidence,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Front":
        """Rebuild a front.

        Raises:
            ValueError: the values are of another version or not a whole front.
        """
        check_version(values, "front")
        given = whole_fields(cls, values, "front")
        try:
            given["points"] = tuple(FrontPoint.from_dict(point) for point in given["points"])
            given["baselines"] = {
                name: Baseline(tuple(FrontPoint.from_dict(p) for p in b["points"]), b["hypervolume"])
                for name, b in given["baselines"].items()
            }
            given["best"] = None if given["best"] is None else given["points"][given["best"]]
            return cls(**given)
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise ValueError(f"not a whole front: {error!r}") from error


def check_version(values: Mapping[str, Any], what: str) -> None:
    """Refuse JSON of another version."""
    if not isinstance(values, Mapping) or values.get("version") != RECORD_VERSION:
        version = values.get("version") if isinstance(values, Mapping) else None
        raise ValueError(f"a {what} of version {RECORD_VERSION} is needed, got version {version!r}")


def whole_fields(kind: type[Any], values: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Take a record's fields, without the version.

    Raises:
        ValueError: one is missing or unknown; every one is named.
    """
    given = {key: value for key, value in dict(values).items() if key != "version"}
    names = {field.name for field in fields(kind)}
    faults = [f"missing {name}" for name in sorted(names - given.keys())]
    faults += [f"unknown {name}" for name in sorted(given.keys() - names)]
    if faults:
        raise ValueError(f"not a whole {what}: {', '.join(faults)}")
    return given
