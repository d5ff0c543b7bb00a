"""Factorise trained members once, and measure them wherever their candidate points are."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from arsvd import MLP, Energy, OperatingPoint, Plan, RankRule, Ranks, Spectra, plan, spectra
from arsvd.candidates import CANDIDATES, Context
from arsvd.candidates.base import view_name
from arsvd.choices import Choice
from arsvd.evaluation.evaluator import Evaluator
from arsvd.evaluation.lockstep import Steps
from arsvd.formats import LOW_RANK
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
        spectra: spectra of the model, by view.
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
    """Compute a member's spectra: the weight basis for the baselines, and the views that are searched."""
    inputs = workbench.calibration(config.calibration)
    return {
        view: spectra(model, inputs if BASES[basis].calibrated else None, basis=basis, format=format)
        for view, basis, format in _views(analysis)
    }


def factorise_together(
    models: Sequence[MLP], configs: Sequence[MemberConfig], analysis: Analysis, workbench: Workbench
) -> list[dict[str, Spectra]]:
    """Compute the spectra of members of one depth, as `factorise` does for one.

    Raises:
        ValueError: a member cannot be factorised; which one, `factorise` tells.
    """
    found: list[dict[str, Spectra]] = [{} for _ in models]
    alike: dict[int, list[int]] = {}
    for position, config in enumerate(configs):
        alike.setdefault(config.calibration, []).append(position)
    for view, basis, format in _views(analysis):
        for images, positions in alike.items():
            inputs = workbench.calibration(images) if BASES[basis].calibrated else None
            members = [models[position] for position in positions]
            results = pack_spectra(members, inputs, basis, format=format)
            for position, result in zip(positions, results, strict=True):
                found[position][view] = result
    return found


def _views(analysis: Analysis) -> list[tuple[str, str, str]]:
    """List views with their bases and formats: low rank, which baselines and recovery need, and others."""
    low_rank = [("weight", "weight", LOW_RANK)]
    low_rank += [(basis, basis, LOW_RANK) for basis in analysis.bases if BASES[basis].calibrated]
    others = [format for format in analysis.formats if format != LOW_RANK]
    return low_rank + [(view_name(b, format), b, format) for format in others for b in analysis.bases]


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
        view: [chosen for family in families for chosen in family.plans(context, view)]
        for view in analysis.views
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
        {view: Evaluator(model, s, *workbench.validation) for view, s in found.items()},
        analysis.views,
        analysis.main_view,
        analysis.rules,
        analysis.thresholds,
        analysis.max_drop,
        partial(workbench.calibration, config.calibration),
    )


def make_rule(name: str, threshold: float) -> RankRule:
    """Build the rule of a sweep file."""
    return RULES[name].at((threshold,))[0]


class _Points:
    """Compressed points, each choice of sizes in a basis once; the first family to find one names it."""

    def __init__(self) -> None:
        self._known: dict[tuple[str | None, tuple[Choice, ...]], OperatingPoint] = {}

    def add(self, points: list[OperatingPoint]) -> None:
        for point in points:
            if point.basis is not None:  # the dense model is counted on its own
                self._known.setdefault((point.basis, point.choices), point)

    def listed(self) -> list[OperatingPoint]:
        return list(self._known.values())


def _baselines(found: Spectra) -> dict[str, list[Plan]]:
    energies = [Energy(t) for t in thresholds(*BASES["weight"].energy_range, BASELINE_POINTS)]
    rules: dict[str, list[RankRule]] = {"fixed": fixed_grid(BASELINE_POINTS), "weight energy": [*energies]}
    return {name: [plan(found, rule) for rule in listed] for name, listed in rules.items()}
