"""Spectra and fronts of trained members, one after the other and all together."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

import arsvd
from arsvd import MLP, Plan, Ranks, Spectra
from arsvd.evaluation.batched import measure_together
from arsvd.evaluation.evaluator import Evaluator, OperatingPoint
from arsvd.fronts import budget_grid, energy_grid
from arsvd.statistics.pack import pack_spectra
from benchmarks.operations import Operations

Points = list[list[OperatingPoint]]

COUNTED = 2  # members whose operations are counted one by one: each has about as many


def factorise_alone(models: Sequence[MLP], inputs: Tensor) -> list[Spectra]:
    """Factorise one model after the other."""
    return [arsvd.spectra(model, inputs) for model in models]


def plans_of(found: Spectra) -> list[Plan]:
    """Plan what `arsvd.front` measures."""
    rules = [Ranks(found.dense), *energy_grid(found), *budget_grid(found)]
    return [arsvd.plan(found, rule) for rule in rules]


def measure(
    models: Sequence[MLP],
    found: Sequence[Spectra],
    plans: Sequence[Sequence[Plan]],
    validation: tuple[Tensor, Tensor],
    together: bool,
) -> Points:
    """Measure each model at its plans."""
    evaluators = [
        Evaluator(model, spectra, *validation) for model, spectra in zip(models, found, strict=True)
    ]
    if together:
        ranks = [[plan.ranks for plan in listed] for listed in plans]
        measure_together(zip(evaluators, ranks, strict=True))
    return [evaluator.points(listed) for evaluator, listed in zip(evaluators, plans, strict=True)]


def both_ways(
    models: Sequence[MLP], inputs: Tensor, validation: tuple[Tensor, Tensor], wait: Callable[[], None]
) -> dict[str, Any]:
    """Time and count what a member takes alone and together with the others.

    Args:
        models: trained members, on the device.
        inputs: (rows, features) for calibration.
        validation: inputs (rows, features) and labels (rows,).
        wait: lets the device come to its end.

    Returns:
        Seconds and dispatched operations a member of both ways; the largest difference of accuracies and
        losses between them.
    """

    def timed(run: Callable[[], Any]) -> tuple[float, Any]:
        wait()
        started = time.perf_counter()
        result = run()
        wait()
        return time.perf_counter() - started, result

    found = pack_spectra(models, inputs)
    planned, plans = timed(lambda: [plans_of(spectra) for spectra in found])
    rows: dict[str, dict[str, float]] = {}
    points: dict[str, Points] = {}
    for way in ("alone", "together"):
        together = way == "together"
        factorise = pack_spectra if together else factorise_alone
        counted = len(models) if together else min(COUNTED, len(models))
        few = models[:counted], found[:counted], plans[:counted]  # these warm up as well
        with Operations() as spectra_operations:
            factorise(few[0], inputs)
        with Operations() as front_operations:
            measure(*few, validation, together)
        spectra_seconds, _ = timed(lambda factorise=factorise: factorise(models, inputs))
        front_seconds, points[way] = timed(
            lambda together=together: measure(models, found, plans, validation, together)
        )
        rows[way] = {
            "spectra_seconds": round(spectra_seconds / len(models), 5),
            "front_seconds": round(front_seconds / len(models), 5),
            "spectra_operations": round(spectra_operations.names.total() / counted, 1),
            "front_operations": round(front_operations.names.total() / counted, 1),
        }
    return {
        "members": len(models),
        "basis": "activation",
        "calibration_images": len(inputs),
        "validation_images": len(validation[1]),
        "points": round(sum(map(len, points["alone"])) / len(models), 1),
        "planning_seconds": round(planned / len(models), 5),
        **rows,
        "times": {key: round(rows["alone"][key] / rows["together"][key], 2) for key in rows["alone"]},
        "largest_difference": {
            "accuracy": _difference(points, "accuracy"),
            "loss": _difference(points, "loss"),
        },
    }


def _difference(points: dict[str, Points], name: str) -> float:
    pairs = zip(points["alone"], points["together"], strict=True)
    return max(abs(getattr(a, name) - getattr(b, name)) for pair in pairs for a, b in zip(*pair, strict=True))
