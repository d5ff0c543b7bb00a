"""The keys of a sweep file: those of the sweep itself, and those that methods declare."""

from dataclasses import replace
from functools import cache
from typing import Any

from arsvd.candidates import CANDIDATES
from arsvd.data.sources import SOURCES
from arsvd.formats import DENSE, FORMATS, LOW_RANK
from arsvd.options import Option
from arsvd.options.forms import DEFAULT_POINTS, EnergyRange
from arsvd.options.kinds import (
    MOST_COUNT,
    SEED_LIMIT,
    AutoOr,
    DistinctNames,
    Label,
    Number,
    OneOf,
    OrNothing,
    Portion,
    Text,
    Whole,
    Widths,
)
from arsvd.rules import RULES
from arsvd.statistics import BASES
from arsvd.training.methods import METHODS
from arsvd.training.schedules import SCHEDULES
from sweeps.objectives import OBJECTIVES
from sweeps.samplers import SAMPLERS

SECTIONS = ("dataset", "model", "training", "compression", "search", "select", "resources")

_NAME = Text(r"[a-z0-9][a-z0-9-]{0,63}", "up to 64 lower-case letters, digits and hyphens")
_POSITIVE = Number(0, low_open=True)
_SHARE = Number(0, 1, high_open=True)
_SEED = Whole(0, SEED_LIMIT)
_COUNT, _COUNT_OR_NONE = Whole(1, most=MOST_COUNT), Whole(0, most=MOST_COUNT)
_CHOICE, _COUNTS = ("choice",), ("choice", "int")
_SHARES, _RATES = ("choice", "uniform"), ("choice", "uniform", "loguniform")


def _rules() -> tuple[str, ...]:
    return tuple(name for name, rule in RULES.items() if rule.searched)


_OWN: tuple[Option[Any], ...] = (
    Option(
        "name",
        OrNothing(_NAME),
        "name of the sweep: lower-case letters, digits and hyphens; null: that of the data set or folder",
        default=None,
        absent=None,
    ),
    Option("dataset.name", OneOf(SOURCES.names), "name of the data set"),
    Option(
        "dataset.label",
        OrNothing(Label()),
        "models are registered as arsvd-LABEL; null: the data set's or the folder's name",
        default=None,
        absent=None,
    ),
    Option(
        "dataset.validation",
        Portion(),
        "training images held out for every choice: a count or a fraction",
        default=0.1,
    ),
    Option(
        "dataset.confirmation",
        OrNothing(Portion()),
        "images held out too, and looked at once, by select.confidence; null: none",
        default=None,
        absent=None,
    ),
    Option("dataset.seed", _SEED, "seed of these splits", default=0),
    Option("model.hidden", Widths(), "widths of the hidden layers", forms=_CHOICE, member=True),
    Option("model.reference", Widths(), "widths of the dense model that compression ratios are relative to"),
    Option("training.epochs", _COUNT, "passes over the images", forms=_COUNTS, member=True, alike=True),
    Option("training.batch_size", _COUNT, "images per step", forms=_CHOICE, member=True, alike=True),
    Option("training.lr", _POSITIVE, "highest learning rate of the schedule", forms=_RATES, member=True),
    Option(
        "training.weight_decay",
        Number(0),
        "weight decay of AdamW; more of it makes layers lower in rank",
        absent=0.0,
        forms=_RATES,
        member=True,
    ),
    Option(
        "training.schedule",
        OneOf(SCHEDULES.names),
        "course of the learning rate",
        default="onecycle",
        absent="onecycle",
        member=True,
        alike=True,
    ),
    Option(
        "training.seed",
        OrNothing(_SEED),
        "one seed for all members; null: one each, from search.seed",
        default=None,
        absent=None,
    ),
    Option(
        "compression.basis",
        OneOf(BASES.names),
        "quantity that is factorised: the weight, a layer's outputs, or these weighted by the loss",
        default="activation",
        forms=_CHOICE,
        member=True,
    ),
    Option(
        "compression.rule",
        OneOf(_rules()),
        "how a threshold becomes ranks",
        default="energy",
        absent="energy",
        forms=_CHOICE,
        member=True,
    ),
    Option(
        "compression.energy",
        Number(0, 1, low_open=True),
        "share of energy to keep; with a range each member is evaluated at this many points",
        default=EnergyRange(0.3, 0.999, DEFAULT_POINTS),
        forms=("choice", "range"),
        member=True,
    ),
    Option(
        "compression.families",
        DistinctNames(CANDIDATES.names, CANDIDATES.retired),
        "sources of a member's points",
        default=CANDIDATES.names,
    ),
    Option(
        "compression.formats",
        DistinctNames(tuple(name for name in FORMATS if name != DENSE)),
        "forms in which layers may be kept",
        default=(LOW_RANK,),
    ),
    Option(
        "compression.calibration",
        Whole(2, most=100 * MOST_COUNT),
        "largest number of training images for the bases of outputs",
        default=10_000,
        member=True,
    ),
    Option(
        "compression.finetune_epochs",
        _COUNT_OR_NONE,
        "recovery after compression; 0 for none",
        default=0,
        absent=0,
        member=True,
    ),
    Option(
        "compression.finetune_points",
        _COUNT,
        "most points of a member's front to fine-tune, where the sweep's front may move",
        default=6,
        member=True,
    ),
    Option(
        "compression.finetune_lr",
        _POSITIVE,
        "highest learning rate of recovery",
        default=1e-3,
        forms=_RATES,
        member=True,
    ),
    Option("search.trials", _COUNT, "members to train"),
    Option("search.sampler", OneOf(SAMPLERS.names), "Optuna's sampler", default="tpe"),
    Option("search.seed", _SEED, "seed of the sampler and of the members", default=0),
    Option(
        "search.objectives",
        DistinctNames(OBJECTIVES.names),
        "goals of the search: high accuracy and macro_f1, low values of the others",
        default=("accuracy", "params"),
    ),
    Option(
        "select.max_drop",
        _SHARE,
        "best model: fewest parameters within this of the best dense validation accuracy",
        default=0.005,
    ),
    Option(
        "select.confidence",
        OrNothing(Number(0.5, 1, high_open=True)),
        "confidence that the drop holds, allowing for the choice among models; null: as measured",
        default=None,
        absent=None,
    ),
    Option("resources.cpu", _POSITIVE, "cores per trial", default=1.0),
    Option(
        "resources.gpu",
        AutoOr(Number(0)),
        "GPUs per trial, fractions share one; auto: by the machine's",
        default="auto",
    ),
    Option("resources.pack", AutoOr(_COUNT), "members trained together in one trial", default="auto"),
    Option("resources.concurrent", AutoOr(_COUNT), "largest number of trials at a time", default="auto"),
    Option(
        "resources.checkpoint_every",
        _POSITIVE,
        "seconds of training that a crash may cost a long-running member",
        default=60.0,
    ),
)


@cache
def options() -> dict[str, Option[Any]]:
    """Return every key of a sweep file with its option, section by section."""
    of_sources = [option for _, source in SOURCES.items() for option in source.options]
    of_methods = [replace(option, member=True) for _, method in METHODS.items() for option in method.options]
    found = {option.key: option for option in (*_OWN, *of_sources, *of_methods)}
    return dict(sorted(found.items(), key=_place))


def _place(item: tuple[str, Option[Any]]) -> tuple[int, int]:
    """Sort by section; a section's own keys come before its inner sections, otherwise as declared."""
    section, _, rest = item[0].partition(".")
    return (SECTIONS.index(section), rest.count(".")) if rest else (-1, 0)


@cache
def member_options() -> dict[str, Option[Any]]:
    """Return the options that affect how one member is trained, by their names in its record."""
    return {option.field: option for option in options().values() if option.member}
