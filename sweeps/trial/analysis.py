"""Factorise trained members once, and measure them wherever their candidate points are."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from arsvd import MLP, Energy, OperatingPoint, Plan, RankRule, Ranks, Spectra, plan, spectra
from arsvd.candidates import CANDIDATES, Context
from arsvd.evaluation.evaluator import Evaluator, RankTuple
from arsvd.evaluation.lockstep import Steps
from arsvd.fronts import fixed_grid, thresholds
from arsvd.rules import RULES
from arsvd.statistics import BASES
from arsvd.statistics.pack import pack_spectra
from sweeps.config import MemberConfig
from sweeps.trial.workbench import Analysis, Workbench

BASELINE_POINTS = 48


@dataclass(frozen=True)
class Measured:
    """A trained member's spectra and operating points.

    Attributes:
        spectra: basis to spectra.
        dense: the model as it was trained.
        asked: the point at the rule and threshold that Optuna asked for.
        points: distinct points that may join the front; the dense one first.
        baselines: "fixed" and "weight energy" to their points.
        fitted: models of points whose weights no spectrum gives.
    """

    spectra: dict[str, Spectra]
    dense: OperatingPoint
    asked: OperatingPoint
    points: tuple[OperatingPoint, ...]
    baselines: dict[str, tuple[OperatingPoint, ...]]
    fitted: dict[OperatingPoint, MLP] = field(default_factory=dict)


def factorise(
    model: MLP, config: MemberConfig, analysis: Analysis, workbench: Workbench
) -> dict[str, Spectra]:
    """Compute a member's spectra: the weight basis for the baselines, and the bases that are searched."""
    found = {"weight": spectra(model)}
    for basis in analysis.bases:
        if BASES[basis].calibrated:
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
            if BASES[basis].calibrated:
                members = [models[position] for position in positions]
                results = pack_spectra(members, workbench.calibration(images), basis)
                for position, result in zip(positions, results, strict=True):
                    found[position][basis] = result
    return found


def measuring(
    model: MLP, found: dict[str, Spectra], config: MemberConfig, analysis: Analysis, workbench: Workbench
) -> Steps[Measured]:
    """Measure a member at the asked point, at what the families propose, and at the baselines' points.

    In steps, of which the first one has everything that no measurement decides. `with_models` adds the
    points of families that make models of their own.
    """
    context = _context(model, found, config, analysis, workbench)
    evaluators, families = context.evaluators, [CANDIDATES[name] for name in analysis.families]
    asked_plan = plan(found[config.basis], make_rule(config.rule, config.energy))
    dense_plan = plan(found["weight"], Ranks(found["weight"].dense))
    grids = {
        basis: [chosen for family in families for chosen in family.plans(context, basis)]
        for basis in analysis.bases
    }
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
    for family in families:
        points.add((yield from family.steps(context, dense, points.listed())))
    return Measured(
        spectra=found,
        dense=dense,
        asked=asked,
        points=(dense, *points.listed()),
        baselines={name: tuple(evaluators["weight"].points(plans)) for name, plans in baselines.items()},
    )


def with_models(
    model: MLP, measured: Measured, config: MemberConfig, analysis: Analysis, workbench: Workbench
) -> Measured:
    """Add the points of families that make models of their own, such as refitted ones."""
    context = _context(model, measured.spectra, config, analysis, workbench)
    made: dict[OperatingPoint, MLP] = {}
    for name in analysis.families:
        own = CANDIDATES[name].models(context, measured.dense, measured.points)
        made |= {point: small for point, small in own.items() if isinstance(small, MLP)}
    return replace(measured, points=(*measured.points, *made), fitted=made)


def _context(
    model: MLP, found: dict[str, Spectra], config: MemberConfig, analysis: Analysis, workbench: Workbench
) -> Context:
    return Context(
        model,
        {basis: Evaluator(model, s, *workbench.validation) for basis, s in found.items()},
        analysis.bases,
        analysis.rules,
        analysis.thresholds,
        analysis.max_drop,
        partial(workbench.calibration, config.calibration),
    )


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


def _baselines(found: Spectra) -> dict[str, list[Plan]]:
    energies = [Energy(t) for t in thresholds(*BASES["weight"].energy_range, BASELINE_POINTS)]
    rules: dict[str, list[RankRule]] = {"fixed": fixed_grid(BASELINE_POINTS), "weight energy": [*energies]}
    return {name: [plan(found, rule) for rule in listed] for name, listed in rules.items()}
