"""A plan: one rank per layer, and what it costs."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from arsvd.coverage import Coverage
from arsvd.json_fields import SINCE, Count, Size, read_fields
from arsvd.rules.base import RankRule, check_multiple
from arsvd.rules.budget import Budget
from arsvd.statistics.spectrum import Spectra, Spectrum

PLAN_VERSION = 1


@dataclass(frozen=True)
class LayerPlan:
    """What becomes of one layer.

    Attributes:
        name: the layer's path in its model.
        out_features: rows of its weight.
        in_features: columns of its weight.
        rank: the inner dimension; None where the layer stays dense.
        kept_energy: the share of its energy that the rank keeps, in [0, 1].
        params: numbers stored.
        macs: multiplications an input row.
    """

    name: str
    out_features: int
    in_features: int
    rank: int | None
    kept_energy: float
    params: int
    macs: int


@dataclass(frozen=True)
class Plan:
    """One rank per layer of a model.

    Attributes:
        basis: the basis of the spectra that it was made from.
        family: the rule that chose the ranks.
        threshold: the rule's number; None where it has none.
        layers: one entry a layer.
        params: numbers stored by the whole compressed model.
        macs: multiplications of one input row in the planned layers.
        dense_params: numbers stored by the whole model as it is.
        dense_macs: multiplications of one input row in the planned layers as they are.
        coverage: how much of the model the planned layers are, and which others stay dense; None in plans
            of before it was kept.
    """

    basis: str
    family: str
    threshold: float | None
    layers: tuple[LayerPlan, ...]
    params: Count
    macs: Size
    dense_params: Count
    dense_macs: Size
    coverage: Coverage | None = field(default=None, metadata={SINCE: "0.2.0"})

    @property
    def ranks(self) -> tuple[int | None, ...]:
        """One rank per layer; None where a layer stays dense."""
        return tuple(layer.rank for layer in self.layers)

    @property
    def ratio(self) -> float:
        """How many times fewer numbers the compressed model stores."""
        return self.dense_params / self.params

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON-able values."""
        return {"version": PLAN_VERSION, **asdict(self)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Plan":
        """Rebuild a plan from `to_dict`.

        Raises:
            ValueError: the values are of another version or are not a plan.
        """
        version = values.get("version") if isinstance(values, Mapping) else None
        if version != PLAN_VERSION:
            raise ValueError(f"a plan of version {PLAN_VERSION} is needed, got version {version!r}")
        fields = {key: value for key, value in values.items() if key != "version"}
        return read_fields(cls, fields, "these values are not a plan")


def rounded(spectrum: Spectrum, rank: int | None, multiple: int) -> int | None:
    """Round a rank to a multiple, and apply the break-even guard.

    Up, so that what the rule asked for is kept; where that exceeds the full rank or break-even, down to the
    next multiple; and where there is none from 1 on, the layer stays dense.

    Args:
        spectrum: the layer's spectrum.
        rank: from 1 to the full rank; None for dense.
        multiple: 1 or more.
    """
    if rank is None or spectrum.worthwhile(rank) is None:
        return None
    above = -(-rank // multiple) * multiple
    for candidate in (above, above - multiple):
        if 1 <= candidate <= spectrum.full_rank and spectrum.worthwhile(candidate) is not None:
            return candidate
    return None


def plan(spectra: Spectra, rule: RankRule, multiple: int = 1) -> Plan:
    """Choose one rank per layer.

    A layer whose factors would hold no fewer numbers than its weight stays dense (break-even guard).

    Args:
        spectra: from `arsvd.spectra`.
        rule: a rank rule, such as `arsvd.Energy(0.98)`.
        multiple: every rank becomes a multiple of this, as hardware likes: rounded up, or down where up
            exceeds the layer's full rank or break-even (such a layer keeps less than the rule asked for);
            a layer too small for any multiple stays dense. A `Budget` shares itself out over multiples
            alone, so that it holds.

    Returns:
        The ranks with their sizes and kept energies.

    Raises:
        ValueError: the rule cannot be applied or satisfied, or the multiple is below 1 or above every
            layer's full rank.
    """
    check_multiple(spectra, multiple)
    if multiple > 1 and isinstance(rule, Budget):
        rule = replace(rule, multiple=multiple)
    guarded = [
        rounded(spectrum, rank, multiple) for spectrum, rank in zip(spectra, rule.ranks(spectra), strict=True)
    ]
    layers = tuple(
        LayerPlan(s.name, s.out_features, s.in_features, rank, s.kept(rank), s.params(rank), s.macs(rank))
        for s, rank in zip(spectra, guarded, strict=True)
    )
    return Plan(
        basis=spectra.basis,
        family=rule.family,
        threshold=rule.threshold,
        layers=layers,
        params=spectra.params(guarded),
        macs=spectra.macs(guarded),
        dense_params=spectra.params(spectra.dense),
        dense_macs=spectra.macs(spectra.dense),
        coverage=spectra.coverage,
    )
