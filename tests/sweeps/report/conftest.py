from collections.abc import Callable
from dataclasses import replace

import pytest

from arsvd import OperatingPoint
from arsvd.evaluation.latency import Latency
from sweeps.ledger.records import Baseline, Front, FrontPoint, TestMetrics


def entry(params: int, accuracy: float, test: float | None = None, **changes: object) -> FrontPoint:
    values: dict[str, object] = {
        "ranks": (params % 97, 4, None),
        "params": params,
        "macs": params - 10,
        "accuracy": accuracy,
        "macro_f1": accuracy - 0.01,
        "loss": 1.0 - accuracy,
        "family": "energy",
        "basis": "activation",
        "threshold": 0.98,
    }
    point = OperatingPoint(**{**values, **changes})  # type: ignore[arg-type]
    tested = None if test is None else TestMetrics(test, test - 0.02, 1.0 - test)
    return FrontPoint(f"{params:020x}", params % 10, point, tested)


@pytest.fixture
def make_entry() -> Callable[..., FrontPoint]:
    return entry


@pytest.fixture
def front() -> Front:
    points = (
        entry(2_000, 0.30, 0.31),
        entry(18_000, 0.93, 0.92),
        entry(40_123, 0.972, 0.969, family="recovered"),
        entry(90_000, 0.976, 0.975, ranks=(None, None, None), family="dense", basis=None, threshold=None),
    )
    baselines = {
        "fixed": Baseline((entry(30_000, 0.5, family="fixed"), entry(80_000, 0.9, family="fixed")), 0.4, 0.8),
        "weight energy": Baseline((entry(40_123, 0.95, basis="weight"),), 0.6, 0.55),
    }
    return Front(
        points=points,
        hypervolume=0.8,
        baselines=baselines,
        reference_params=100_000,
        reference_macs=99_000,
        dense_accuracy=0.976,
        best=points[2],
        validation_images=5_000,
        test_images=10_000,
        dense=entry(80_246, 0.976, 0.975, family="dense", basis=None, threshold=None),
        reference=entry(100_000, 0.971, 0.97, family="dense", basis=None, threshold=None),
    )


@pytest.fixture
def timed_front(front: Front) -> Front:
    """The same with latency, but at one point, and with assured accuracies."""
    points = []
    for entry, median in zip(front.points, (20.0, 180.0, None, 1_250.0), strict=True):
        latency = tuple(
            Latency(batch, 1, "cpu", 40, time, 1.5 * time, dense, 1.25 * dense)
            for batch, time, dense in ((1, (median or 0) / 10, 50.0), (256, median or 0, 1_000.0))
        )
        assured = round(entry.point.accuracy - 0.004, 4)
        points.append(replace(entry, latency=latency if median else (), assured=assured))
    return replace(front, points=tuple(points), best=points[2], confidence=0.95)


@pytest.fixture
def empty_front() -> Front:
    return Front((), 0.0, {}, 100_000, 99_000, 0.9, None)
