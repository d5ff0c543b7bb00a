"""A plan: one choice of format and size per site, and what it costs."""

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
        rank: the size chosen, in its format; None where the layer stays dense.
        kept_energy: the share of its energy that the size keeps, in [0, 1].
        params: numbers stored.
        macs: multiplications for one input row of the model.
        format: name of the format of the size.
        site: name of the kind of site.
        bits: bits stored; 32 a number in plans of before they were counted.
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
        """What the site costs."""
        return stored_cost(self.params, self.bits, self.macs)


@dataclass(frozen=True)
class Plan:
    """One choice per site of a model.

    Attributes:
        basis: basis of the spectra that it was made from.
        family: name of the rule that chose the sizes.
        threshold: the rule's number; None where it has none.
        layers: one entry a site.
        params: numbers stored by the whole compressed model.
        macs: multiplications of one input row in the planned sites.
        dense_params: numbers stored by the whole model as it is.
        dense_macs: multiplications of one input row in the planned sites as they are.
        coverage: share of the model that the planned sites are, and the layers that stay dense; None in plans
            of before it was kept.
        bits: bits stored by the whole compressed model, its buffers among them; 32 a number in plans of
            before they were counted.
        dense_bits: bits stored by the whole model as it is.
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
        """What the compressed model costs."""
        return stored_cost(self.params, self.bits, self.macs)

    @property
    def dense_cost(self) -> Cost:
        """What the model as it is costs."""
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
    """Return a cost as records have it: 32 bits a number where none are on record."""
    return Cost(numbers, NUMBER_BITS * numbers if bits is None else bits, macs)


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
        if 1 <= candidate <= spectrum.largest and spectrum.worthwhile(candidate) is not None:
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
