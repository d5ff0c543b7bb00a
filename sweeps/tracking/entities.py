"""How members, fronts and data sets become MLflow's metrics, parameters and inputs."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric

from arsvd.evaluation.evaluator import OperatingPoint
from arsvd.fronts import pareto

if TYPE_CHECKING:
    from sweeps.ledger.records import Front, FrontPoint, MemberRecord

_DIGEST_CHARACTERS = 36  # MLflow's limit for a data set's digest


def member_params(record: "MemberRecord") -> dict[str, object]:
    """Return the configuration of a member's training."""
    values = record.config.values()
    values["hidden"] = "-".join(str(width) for width in record.config.hidden)
    return values


def member_metrics(record: "MemberRecord", reference_params: int | None, stamp: int) -> list[Metric]:
    """Return a member's curves, its dense and proposed points, and its front.

    The proposed point is also there under its former name "asked", which queries may use.

    Args:
        record: record of the member.
        reference_params: number of parameters of the model that ratios are relative to.
        stamp: time of all values, in milliseconds since 1970.
    """
    proposed: dict[str, float] = {}
    if record.asked is not None:
        proposed = point_values("", record.asked) | ratio("ratio", record.asked, reference_params)
    dense = {} if record.dense is None else point_values("dense_", record.dense)
    curves = [
        Metric(name, value, stamp, epoch)
        for name, curve in record.curves.items()
        for epoch, value in enumerate(curve, start=1)
    ]
    front = [
        Metric(f"front_{name}", value, stamp, point.cost.numbers)
        for point in pareto(record.points)
        for name, value in (
            ("accuracy", point.accuracy),
            ("macro_f1", point.macro_f1),
            ("macs", point.cost.macs),
        )
    ]
    # a page lists them in this order
    return [
        *_single(dense | _named("proposed_", proposed), stamp),
        *curves,
        *front,
        *_single(_named("seconds_", record.seconds) | _named("asked_", proposed), stamp),
    ]


def progress_values(
    members: int, points: int, hypervolume: float, best: "FrontPoint | None", reference_params: int | None
) -> dict[str, float]:
    """Return the progress of a sweep."""
    values: dict[str, float] = {"members": members, "points": points, "hypervolume": hypervolume}
    if best is not None:
        values |= {"best_accuracy": best.point.accuracy, "best_params": best.point.cost.numbers}
        values |= ratio("best_ratio", best.point, reference_params)
    return values


def front_values(front: "Front", reference_params: int | None) -> dict[str, float]:
    """Return the summary of a final front."""
    values = {"final_hypervolume": front.hypervolume, "dense_accuracy": front.dense_accuracy}
    for name, baseline in front.baselines.items():
        rival = name.replace(" ", "_")
        values[f"{rival}_hypervolume"] = baseline.hypervolume
        if baseline.others_hypervolume is not None:
            values[f"hypervolume_without_{rival}"] = baseline.others_hypervolume
    for name, network in (("dense", front.dense), ("reference", front.reference)):
        if network is not None:
            values |= {
                f"{name}_params": network.point.cost.numbers,
                f"{name}_accuracy": network.point.accuracy,
            }
            if network.test is not None:
                values[f"{name}_test_accuracy"] = network.test.accuracy
    if front.best is not None:
        values |= point_values("best_", front.best.point)
        values |= ratio("best_ratio", front.best.point, reference_params)
        if front.dense is not None:
            values |= ratio("best_dense_ratio", front.best.point, front.dense.point.cost.numbers)
        if front.best.test is not None:
            values["best_test_accuracy"] = front.best.test.accuracy
            values["best_test_macro_f1"] = front.best.test.macro_f1
    return values


def point_values(prefix: str, point: OperatingPoint) -> dict[str, float]:
    """Return an operating point's values, each name with a prefix."""
    names = ("accuracy", "macro_f1", "loss", "params", "macs")
    return {f"{prefix}{name}": float(getattr(point, name)) for name in names}


def ratio(name: str, point: OperatingPoint, reference_params: int | None) -> dict[str, float]:
    """Return how many times a point is smaller than the reference; nothing where there is none."""
    return {name: reference_params / point.cost.numbers} if reference_params else {}


def _named(prefix: str, values: Mapping[str, float]) -> dict[str, float]:
    return {f"{prefix}{name}": value for name, value in values.items()}


def _single(values: Mapping[str, float], stamp: int) -> list[Metric]:
    return [Metric(name, value, stamp, 0) for name, value in values.items()]


def data_inputs(dataset: str, data_hash: str) -> list[DatasetInput]:
    """Return the three splits of a data set as MLflow links them to runs and metrics.

    Args:
        dataset: name of the data set.
        data_hash: content hash of the data set.
    """
    return [
        DatasetInput(
            Dataset(split_name(dataset, split), digest(data_hash), "local", f'{{"sha256": "{data_hash}"}}'),
            [InputTag("mlflow.data.context", context)],
        )
        for split, context in (("train", "training"), ("validation", "validation"), ("test", "testing"))
    ]


def split_name(dataset: str, split: str) -> str:
    """Return the name under which MLflow knows one split of a data set."""
    return f"{dataset} {split}"


def digest(data_hash: str) -> str:
    """Return a content hash at the length that MLflow takes."""
    return data_hash[:_DIGEST_CHARACTERS]
