"""A member in the MLflow UI, for people: its name, and a Markdown note."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from arsvd.fronts import pareto
from sweeps.tracking.batches import cut
from sweeps.tracking.outages import redact
from sweeps.tracking.versions import ranks_text

if TYPE_CHECKING:
    from arsvd.evaluation.evaluator import OperatingPoint
    from sweeps.config import MemberConfig
    from sweeps.ledger.records import MemberRecord

_POINTS = 6  # of a member's front that its note lists
_CAUSE_CHARACTERS = 2000


def member_note(record: "MemberRecord", reference_params: int | None) -> str:
    """Describe a member: its training, its results at several sizes, and how it ended.

    Args:
        record: record of the member.
        reference_params: number of parameters of the model that ratios are relative to; None where there is
            none.
    """
    front = pareto(record.points)
    reached = [] if record.dense is None else [("dense", record.dense)]
    reached += [("compressed", point) for point in front[-1:]]
    told = ", ".join(f"{name} {point.accuracy:.2%} at {point.cost.numbers:,}" for name, point in reached)
    # the first line is all that a list of runs shows
    lines = [f"{told} parameters".capitalize() if told else record.status.capitalize(), ""]
    lines += [_training(record.config), ""]
    if record.cause:
        # indented, so that no error text is taken for Markdown
        cause = cut(redact(record.cause), _CAUSE_CHARACTERS).splitlines()
        lines += ["It failed:", "", *(f"    {line}" for line in cause), ""]
    rows = [] if record.dense is None else [("dense", record.dense)]
    rows += [] if record.asked is None else [("proposed by the search", record.asked)]
    rows += [("front", point) for point in _spread(front)]
    if rows:
        lines += [
            "| network | parameters | times fewer than the reference | validation accuracy | ranks | rule |",
            "| --- | ---: | ---: | ---: | --- | --- |",
            *(_point_row(name, point, reference_params) for name, point in rows),
            "",
            f"The front of this member has {len(front)} points; as a chart it is `front_accuracy` under "
            "*Model metrics*, where a step is a number of parameters. The metrics `proposed_…` belong to the "
            "point at the rule and threshold that the search proposed; `asked_…` is their former name.",
        ]
    return "\n".join(lines).rstrip()


def network_name(config: "MemberConfig") -> str:
    """Return a member's hidden widths, with its factors where there are several: `128-64 ×2`."""
    widths = "-".join(str(width) for width in config.hidden)
    return f"{widths} ×{config.factors}" if config.factors > 1 else widths


def _training(config: "MemberConfig") -> str:
    told = [
        name.replace("_", " ") + (f" {value:.3g}" if isinstance(value, float) else f" {value}")
        for name, value in config.to_dict().items()  # without what is off
        if name != "hidden" and not config.declared[name].key.startswith("compression.") and value is not None
    ]
    return (
        f"An MLP with hidden layers of {', '.join(map(str, config.hidden))}, trained with {', '.join(told)}. "
        f"The search proposed to compress it by {config.rule} at {config.energy:.4g} in the {config.basis} "
        "basis."
    )


def _spread(front: "Sequence[OperatingPoint]") -> "list[OperatingPoint]":
    """Pick a few points of a front, including both ends."""
    if len(front) <= _POINTS:
        return list(front)
    return [front[round(place * (len(front) - 1) / (_POINTS - 1))] for place in range(_POINTS)]


def _point_row(name: str, point: "OperatingPoint", reference_params: int | None) -> str:
    ratio = "" if reference_params is None else f"{reference_params / point.cost.numbers:.1f}"
    rule = "training" if point.family == "dense" else point.family
    threshold = "" if point.threshold is None else f" {point.threshold:.4g}"
    basis = "" if point.basis is None else f", {point.basis} basis"
    cells = (name, f"{point.cost.numbers:,}", ratio, f"{point.accuracy:.4f}", ranks_text(point.choices))
    return f"| {' | '.join(cells)} | {rule}{threshold}{basis} |"
