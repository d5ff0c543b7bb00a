"""Factorise one trained member once, and measure it wherever its candidate points are."""

from collections.abc import Callable
from dataclasses import dataclass, field

from arsvd import MLP, Energy, Entropy, OperatingPoint, RankRule, Ranks, Spectra, pareto, plan, spectra
from arsvd.evaluation import Evaluator, RankTuple, evaluate, operating_point
from arsvd.fronts import ENERGY_RANGES, budget_grid, fixed_grid, thresholds
from arsvd.local_search import local_search
from arsvd.refit import refit
from arsvd.sensitivity import sensitivity
from sweeps.config import MemberConfig
from sweeps.trial.per_layer import per_layer_search
from sweeps.trial.sizes import spread_plans
from sweeps.trial.weights import REFIT
from sweeps.trial.workbench import Analysis, Workbench

BASELINE_POINTS = 48
BUDGET_POINTS = 48
LOCAL_POINTS = 150
PER_LAYER_POINTS = 100
REFIT_POINTS = 10
REFIT_ROWS = 5000  # more bring next to nothing (measured on MNIST: 10,000 rows, 0.1 points) at twice the time
SEARCHED_DROP = 10  # times the allowed drop: points that lose more are not worth improving


@dataclass(frozen=True)
class Measured:
    """A trained member's spectra and operating points.

    Attributes:
        spectra: basis to spectra.
        dense: the model as it was trained.
        asked: the point at the rule and threshold that Optuna asked for.
        points: distinct points that may join the front; the dense one first.
        baselines: "fixed" and "weight energy" to their points.
        refitted: the models of the refitted points.
    """

    spectra: dict[str, Spectra]
    dense: OperatingPoint
    asked: OperatingPoint
    points: tuple[OperatingPoint, ...]
    baselines: dict[str, tuple[OperatingPoint, ...]]
    refitted: dict[OperatingPoint, MLP] = field(default_factory=dict)


def factorise(
    model: MLP, config: MemberConfig, analysis: Analysis, workbench: Workbench
) -> dict[str, Spectra]:
    """Compute a member's spectra: the weight basis for the baselines, and the bases that are searched."""
    found = {"weight": spectra(model)}
    for basis in analysis.bases:
        if basis != "weight":
            found[basis] = spectra(model, workbench.calibration(config.calibration), basis=basis)
    return found


def measure_points(
    model: MLP, found: dict[str, Spectra], config: MemberConfig, analysis: Analysis, workbench: Workbench
) -> Measured:
    """Measure a member at the asked point, at what the families propose, and at the baselines' points."""
    evaluators = {basis: Evaluator(model, s, *workbench.validation) for basis, s in found.items()}
    dense = _dense_point(evaluators["weight"])
    asked_plan = plan(found[config.basis], make_rule(config.rule, config.energy))
    asked = evaluators[config.basis].points([asked_plan])[0]
    points = _Points()
    points.add([asked])
    for basis in analysis.bases:
        evaluator = evaluators[basis]
        if "threshold" in analysis.families:
            rules = _threshold_rules(basis, analysis)
            points.add(evaluator.points([plan(found[basis], rule) for rule in rules]))
        if "budget" in analysis.families:
            points.add(_budget(evaluator, None))
    main = evaluators[analysis.main_basis]
    if "sensitivity" in analysis.families:
        points.add(_budget(main, sensitivity(main)))
    if "per_layer" in analysis.families:
        points.add(per_layer_search(main, analysis.thresholds, PER_LAYER_POINTS, config.seed))
    if "local" in analysis.families:
        start = [point for point in (dense, *points.listed()) if point.basis in (analysis.main_basis, None)]
        floor = dense.accuracy - SEARCHED_DROP * analysis.max_drop
        points.add(local_search(main, start, LOCAL_POINTS, floor))
    refitted = {}
    if "refit" in analysis.families:
        front = pareto((dense, *points.listed()))
        refitted = _refit(model, main.spectra, front, dense, config, analysis, workbench)
    return Measured(
        spectra=found,
        dense=dense,
        asked=asked,
        points=(dense, *points.listed(), *refitted),
        baselines=_baselines(evaluators["weight"]),
        refitted=refitted,
    )


def make_rule(name: str, threshold: float) -> RankRule:
    """Build the rule of a sweep file."""
    rules: dict[str, Callable[[float], RankRule]] = {"energy": Energy, "entropy": Entropy}
    return rules[name](threshold)


class _Points:
    """Compressed points, each rank tuple of a basis once; the first family to find one names it."""

    def __init__(self) -> None:
        self._known: dict[tuple[str | None, RankTuple], OperatingPoint] = {}

    def add(self, points: list[OperatingPoint]) -> None:
        for point in points:
            if point.basis is not None:  # the dense model is counted on its own
                self._known.setdefault((point.basis, point.ranks), point)

    def listed(self) -> list[OperatingPoint]:
        return list(self._known.values())


def _dense_point(evaluator: Evaluator) -> OperatingPoint:
    dense = plan(evaluator.spectra, Ranks(evaluator.spectra.dense))
    return operating_point(dense, evaluator.metrics([dense.ranks])[dense.ranks])


def _threshold_rules(basis: str, analysis: Analysis) -> list[RankRule]:
    return [
        make_rule(rule, threshold)
        for rule in analysis.rules
        if rule != "entropy" or basis == "weight"
        for threshold in analysis.thresholds
    ]


def _budget(evaluator: Evaluator, weights: tuple[float, ...] | None) -> list[OperatingPoint]:
    rules = budget_grid(evaluator.spectra, BUDGET_POINTS, weights)
    return evaluator.points([plan(evaluator.spectra, rule) for rule in rules])


def _refit(
    model: MLP,
    found: Spectra,
    front: tuple[OperatingPoint, ...],
    dense: OperatingPoint,
    config: MemberConfig,
    analysis: Analysis,
    workbench: Workbench,
) -> dict[OperatingPoint, MLP]:
    """Refit layers at sizes around and below the smallest that loses next to nothing."""
    inputs = workbench.calibration(config.calibration)[:REFIT_ROWS]
    refitted = {}
    for chosen in spread_plans(found, front, dense, REFIT_POINTS, analysis.max_drop):
        small = refit(model, found, chosen, inputs)
        point = operating_point(chosen, evaluate(small, *workbench.validation))
        if isinstance(small, MLP):
            refitted[point.named(REFIT)] = small
    return refitted


def _baselines(evaluator: Evaluator) -> dict[str, tuple[OperatingPoint, ...]]:
    energies = [Energy(t) for t in thresholds(*ENERGY_RANGES["weight"], BASELINE_POINTS)]
    rules: dict[str, list[RankRule]] = {"fixed": fixed_grid(BASELINE_POINTS), "weight energy": [*energies]}
    return {
        name: tuple(evaluator.points([plan(evaluator.spectra, rule) for rule in listed]))
        for name, listed in rules.items()
    }
