"""Factorise one trained member once, and measure it at every distinct rank tuple."""

from collections.abc import Callable
from dataclasses import dataclass

from arsvd import MLP, Energy, Entropy, OperatingPoint, RankRule, Ranks, Spectra, plan, spectra
from arsvd.evaluation import Evaluator, operating_point
from arsvd.fronts import ENERGY_RANGES, budget_grid, fixed_grid, thresholds
from sweeps.config import MemberConfig
from sweeps.trial.workbench import Analysis, Workbench

BASELINE_POINTS = 48
BUDGET_POINTS = 64


@dataclass(frozen=True)
class Measured:
    """A trained member's spectra and operating points.

    Attributes:
        spectra: basis to spectra.
        dense: the model as it was trained.
        asked: the point at the rule and threshold that Optuna asked for.
        points: distinct points that may join the front; the dense one first.
        baselines: "fixed" and "weight energy" to their points.
    """

    spectra: dict[str, Spectra]
    dense: OperatingPoint
    asked: OperatingPoint
    points: tuple[OperatingPoint, ...]
    baselines: dict[str, tuple[OperatingPoint, ...]]


def factorise(
    model: MLP, config: MemberConfig, analysis: Analysis, workbench: Workbench
) -> dict[str, Spectra]:
    """Compute a member's spectra: the weight basis for the baselines, and the bases that are searched."""
    found = {"weight": spectra(model)}
    if "activation" in analysis.bases:
        found["activation"] = spectra(model, calibration=workbench.calibration(config.calibration))
    return found


def measure_points(
    model: MLP, found: dict[str, Spectra], config: MemberConfig, analysis: Analysis, workbench: Workbench
) -> Measured:
    """Measure a member at the asked point, along its thresholds and budgets, and at the baselines' points."""
    evaluators = {basis: Evaluator(model, s, *workbench.validation) for basis, s in found.items()}
    asked_rule = make_rule(config.rule, config.energy)
    points: dict[tuple[str | None, tuple[int | None, ...]], OperatingPoint] = {}
    for basis in analysis.bases:
        s = found[basis]
        rules: list[RankRule] = [
            make_rule(rule, threshold)
            for rule in analysis.rules
            if rule != "entropy" or basis == "weight"
            for threshold in analysis.thresholds
        ]
        if config.basis == basis:
            rules.insert(0, asked_rule)
        rules += budget_grid(s, BUDGET_POINTS)
        for point in evaluators[basis].points([plan(s, rule) for rule in rules]):
            points.setdefault((point.basis, point.ranks), point)
    weight = found["weight"]
    dense_plan = plan(weight, Ranks(weight.dense))
    dense = operating_point(dense_plan, evaluators["weight"].metrics([dense_plan.ranks])[dense_plan.ranks])
    points.pop((None, dense.ranks), None)
    asked_plan = plan(found[config.basis], asked_rule)
    asked = evaluators[config.basis].points([asked_plan])[0]
    energies = [Energy(t) for t in thresholds(*ENERGY_RANGES["weight"], BASELINE_POINTS)]
    baselines = {
        "fixed": evaluators["weight"].points([plan(weight, rule) for rule in fixed_grid(BASELINE_POINTS)]),
        "weight energy": evaluators["weight"].points([plan(weight, rule) for rule in energies]),
    }
    return Measured(
        spectra=found,
        dense=dense,
        asked=asked,
        points=(dense, *points.values()),
        baselines={name: tuple(listed) for name, listed in baselines.items()},
    )


def make_rule(name: str, threshold: float) -> RankRule:
    """Build the rule of a sweep file."""
    rules: dict[str, Callable[[float], RankRule]] = {"energy": Energy, "entropy": Entropy}
    return rules[name](threshold)
