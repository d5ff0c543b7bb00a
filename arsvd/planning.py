"""A plan: one choice of format and size per site, and its cost."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from arsvd.choices import DENSE_CHOICE, Choice
from arsvd.cost import NUMBER_BITS, Cost
from arsvd.coverage import Coverage
from arsvd.formats import LOW_RANK
from arsvd.json_fields import SINCE, Count, Size, read_fields
from arsvd.rules.base import RankRule, check_multiple
from arsvd.rules.budget import Budget
from arsvd.statistics.spectrum import Spectra, Spectrum

PLAN_VERSION = 1


@dataclass(frozen=True)
class LayerPlan:
    """What becomes of one site.

    Attributes:
        name: path of the site's layer in its model.
        out_features: outputs of the site.
        in_features: columns of its matrix.
        rank: chosen size, in the site's format; None where the layer stays dense.
        kept_energy: share of the site's energy that the size keeps, in [0, 1].
        params: count of numbers stored.
        macs: multiplications for one input row of the model.
        format: name of the format that the size is in.
        site: name of the kind of site.
        bits: bits stored; None, for 32 per number, in plans from before bits were counted.
    """

    name: str
    out_features: int
    in_features: int
    rank: int | None
    kept_energy: float
    params: int
    macs: int
    format: str = field(default=LOW_RANK, metadata={SINCE: "0.3.0"})
    site: str = field(default="linear", metadata={SINCE: "0.3.0"})
    bits: int | None = field(default=None, metadata={SINCE: "0.3.0"})

    @property
    def choice(self) -> Choice:
        """The format and the size in it."""
        return DENSE_CHOICE if self.rank is None else Choice(self.format, self.rank)

    @property
    def cost(self) -> Cost:
        """The cost of the site."""
        return stored_cost(self.params, self.bits, self.macs)


@dataclass(frozen=True)
class Plan:
    """One choice per site of a model.

    Attributes:
        basis: basis of the spectra that the plan was made from.
        family: name of the rule that chose the sizes.
        threshold: number that the rule was given; None where it has none.
        layers: one entry per site.
        params: count of numbers stored by the whole compressed model.
        macs: multiplications for one input row in the planned sites.
        dense_params: count of numbers stored by the whole model as it is.
        dense_macs: multiplications for one input row in the planned sites as they are.
        coverage: share of the model that the planned sites make up, and the layers that stay dense; None in
            plans from before it was recorded.
        bits: bits stored by the whole compressed model, including its buffers; None, for 32 per number, in
            plans from before bits were counted.
        dense_bits: bits stored by the whole model as it is; None like `bits`.
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
    bits: int | None = field(default=None, metadata={SINCE: "0.3.0"})
    dense_bits: int | None = field(default=None, metadata={SINCE: "0.3.0"})

    @property
    def ranks(self) -> tuple[int | None, ...]:
        """One size per site; None where a layer stays dense."""
        return tuple(layer.rank for layer in self.layers)

    @property
    def choices(self) -> tuple[Choice, ...]:
        """One choice of format and size per site."""
        return tuple(layer.choice for layer in self.layers)

    @property
    def cost(self) -> Cost:
        """The cost of the compressed model."""
        return stored_cost(self.params, self.bits, self.macs)

    @property
    def dense_cost(self) -> Cost:
        """The cost of the model as it is."""
        return stored_cost(self.dense_params, self.dense_bits, self.dense_macs)

    @property
    def ratio(self) -> float:
        """How many times fewer numbers the compressed model stores."""
        return self.dense_cost.numbers / self.cost.numbers

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


def stored_cost(numbers: int, bits: int | None, macs: int) -> Cost:
    """Return the cost that a record describes: with 32 bits per number where it has no bits."""
    return Cost(numbers, NUMBER_BITS * numbers if bits is None else bits, macs)


def rounded(spectrum: Spectrum, rank: int | None, multiple: int) -> int | None:
    """Round a rank to a multiple, and apply the break-even guard.

    The rank is rounded up, so that what the rule asked for is kept, or down to the next multiple where
    rounding up exceeds the full rank or break-even. Where no multiple of at least 1 is left, the layer stays
    dense.

    Args:
        spectrum: spectrum of the layer.
        rank: rank from 1 to the full rank; None for dense.
        multiple: whole number of at least 1.

    Returns:
        The rounded rank; None where the layer stays dense.
    """
    if rank is None or spectrum.worthwhile(rank) is None:
        return None
    above = -(-rank // multiple) * multiple
    for candidate in (above, above - multiple):
        if 1 <= candidate <= spectrum.largest and spectrum.worthwhile(candidate) is not None:
            return candidate
    return None


def plan(spectra: Spectra, rule: RankRule, multiple: int = 1) -> Plan:
    """Choose one rank per layer.

    A layer whose factors would hold no fewer numbers than its weight stays dense (break-even guard).

    Args:
        spectra: spectra of a model, as `arsvd.spectra` returns them.
        rule: rank rule, such as `arsvd.Energy(0.98)`.
        multiple: whole number of which every rank becomes a multiple, to suit hardware. Ranks are rounded
            up, or down where that would exceed the layer's full rank or break-even (such a layer keeps less
            than the rule asked for); a layer too small for any multiple stays dense. A `Budget` chooses
            among multiples only, so that it still holds.

    Returns:
        The ranks with their costs and kept energies.

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
    layers = tuple(_layer_plan(s, rank) for s, rank in zip(spectra, guarded, strict=True))
    cost, dense = spectra.cost(guarded), spectra.cost(spectra.dense)
    return Plan(
        basis=spectra.basis,
        family=rule.family,
        threshold=rule.threshold,
        layers=layers,
        params=cost.numbers,
        macs=cost.macs,
        dense_params=dense.numbers,
        dense_macs=dense.macs,
        coverage=spectra.coverage,
        bits=cost.bits,
        dense_bits=dense.bits,
    )


def _layer_plan(spectrum: Spectrum, rank: int | None) -> LayerPlan:
    cost = spectrum.cost(rank)
    return LayerPlan(
        name=spectrum.name,
        out_features=spectrum.out_features,
        in_features=spectrum.in_features,
        rank=rank,
        kept_energy=spectrum.kept(rank),
        params=cost.numbers,
        macs=cost.macs,
        format=spectrum.format,
        site=spectrum.site,
        bits=cost.bits,
    )
