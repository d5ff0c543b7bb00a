"""Factorise trained members once, and measure them wherever their candidate points are."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from arsvd import MLP, Energy, OperatingPoint, Plan, RankRule, Ranks, Spectra, pareto, plan, spectra
from arsvd.evaluation import Evaluator, RankTuple, evaluate, operating_point
from arsvd.fronts import ENERGY_RANGES, budget_grid, fixed_grid, thresholds
from arsvd.local_search import local_steps
from arsvd.lockstep import Steps
from arsvd.pack_spectra import pack_spectra
from arsvd.refit import refit
from arsvd.rules import RULES
from arsvd.sensitivity import sensitivity_steps
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


def factorise_together(
    models: Sequence[MLP], configs: Sequence[MemberConfig], analysis: Analysis, workbench: Workbench
) -> list[dict[str, Spectra]]:
    """Compute the spectra of members of one depth, as `factorise` does for one.

    Raises:
        ValueError: a member cannot be factorised; which one, `factorise` tells.
    """
    found = [{"weight": weight} for weight in pack_spectra(models)]
    alike: dict[int, list[int]] = {}
    for position, config in enumerate(configs):
        alike.setdefault(config.calibration, []).append(position)
    for basis in analysis.bases:
        for images, positions in alike.items():
            if basis != "weight":
                members = [models[position] for position in positions]
                results = pack_spectra(members, workbench.calibration(images), basis)
                for position, result in zip(positions, results, strict=True):
                    found[position][basis] = result
    return found


def measuring(
    model: MLP, found: dict[str, Spectra], config: MemberConfig, analysis: Analysis, workbench: Workbench
) -> Steps[Measured]:
    """Measure a member at the asked point, at what the families propose, and at the baselines' points.

    In steps, of which the first one has everything that no measurement decides. `with_refits` adds the
    refitted points.
    """
    evaluators = {basis: Evaluator(model, s, *workbench.validation) for basis, s in found.items()}
    asked_plan = plan(found[config.basis], make_rule(config.rule, config.energy))
    dense_plan = plan(found["weight"], Ranks(found["weight"].dense))
    grids = {basis: _grid(found[basis], analysis) for basis in analysis.bases}
    baselines = _baselines(found["weight"])
    first = [("weight", [dense_plan]), (config.basis, [asked_plan]), *grids.items()]
    first += [("weight", plans) for plans in baselines.values()]
    yield [(evaluators[basis], [chosen.ranks for chosen in plans]) for basis, plans in first]

    (dense,) = evaluators["weight"].points([dense_plan])
    (asked,) = evaluators[config.basis].points([asked_plan])
    points = _Points()
    points.add([asked])
    for basis, plans in grids.items():
        points.add(evaluators[basis].points(plans))
    main = evaluators[analysis.main_basis]
    if "sensitivity" in analysis.families:
        weights = yield from sensitivity_steps(main)
        budgets = _budgets(main.spectra, weights)
        yield [(main, [chosen.ranks for chosen in budgets])]
        points.add(main.points(budgets))
    if "per_layer" in analysis.families:
        points.add(per_layer_search(main, analysis.thresholds, PER_LAYER_POINTS, config.seed))
    if "local" in analysis.families:
        start = [point for point in (dense, *points.listed()) if point.basis in (analysis.main_basis, None)]
        floor = dense.accuracy - SEARCHED_DROP * analysis.max_drop
        points.add((yield from local_steps(main, start, LOCAL_POINTS, floor)))
    return Measured(
        spectra=found,
        dense=dense,
        asked=asked,
        points=(dense, *points.listed()),
        baselines={name: tuple(evaluators["weight"].points(plans)) for name, plans in baselines.items()},
    )


def with_refits(
    model: MLP, measured: Measured, config: MemberConfig, analysis: Analysis, workbench: Workbench
) -> Measured:
    """Refit layers at sizes around and below the smallest that loses next to nothing; adds these points."""
    if "refit" not in analysis.families:
        return measured
    found, inputs = measured.spectra[analysis.main_basis], workbench.calibration(config.calibration)
    front = pareto(measured.points)
    refitted = {}
    for chosen in spread_plans(found, front, measured.dense, REFIT_POINTS, analysis.max_drop):
        small = refit(model, found, chosen, inputs[:REFIT_ROWS])
        point = operating_point(chosen, evaluate(small, *workbench.validation))
        if isinstance(small, MLP):
            refitted[point.named(REFIT)] = small
    return replace(measured, points=(*measured.points, *refitted), refitted=refitted)


def make_rule(name: str, threshold: float) -> RankRule:
    """Build the rule of a sweep file."""
    return RULES[name].at((threshold,))[0]


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


def _grid(found: Spectra, analysis: Analysis) -> list[Plan]:
    """Plan what the families propose that look at spectra alone."""
    plans = []
    if "threshold" in analysis.families:
        plans += [plan(found, rule) for rule in _threshold_rules(found.basis, analysis)]
    if "budget" in analysis.families:
        plans += _budgets(found, None)
    return plans


def _threshold_rules(basis: str, analysis: Analysis) -> list[RankRule]:
    return [
        rule
        for name in analysis.rules
        if basis in RULES[name].bases
        for rule in RULES[name].at(analysis.thresholds)
    ]


def _budgets(found: Spectra, weights: tuple[float, ...] | None) -> list[Plan]:
    return [plan(found, rule) for rule in budget_grid(found, BUDGET_POINTS, weights)]


def _baselines(found: Spectra) -> dict[str, list[Plan]]:
    energies = [Energy(t) for t in thresholds(*ENERGY_RANGES["weight"], BASELINE_POINTS)]
    rules: dict[str, list[RankRule]] = {"fixed": fixed_grid(BASELINE_POINTS), "weight energy": [*energies]}
    return {name: [plan(found, rule) for rule in listed] for name, listed in rules.items()}
