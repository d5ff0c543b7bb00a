"""The search space of a configuration: Optuna's distributions, and points to and from members."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from arsvd.options.faults import shown
from arsvd.options.forms import (
    LEAST_DROPPED_ENERGY,
    Choice,
    EnergyRange,
    Form,
    IntRange,
    LogUniform,
    Uniform,
)
from arsvd.rules import RULES
from sweeps.config.checking import choices
from sweeps.config.member import MemberConfig, member_value
from sweeps.config.options import member_options, options
from sweeps.config.schema import SweepConfig

DROPPED_ENERGY = "compression.dropped_energy"

# 1 - (1 - tau) is not tau in binary; to 12 decimals it is, and the least dropped energy keeps 6 of them
_DECIMALS = 12


@dataclass(frozen=True)
class Space:
    """The search space of a sweep. Make it with `Space.from_config`.

    Args:
        searched: form of each searched key.
        fixed: value of every other key.
        seed: seed of all members, or None where each has its own.
    """

    searched: Mapping[str, Form]
    fixed: Mapping[str, Any]
    seed: int | None

    @classmethod
    def from_config(cls, config: SweepConfig) -> "Space":
        """Split a configuration into searched and fixed keys."""
        searched: dict[str, Form] = {}
        fixed: dict[str, Any] = {}
        for option in member_options().values():
            value = config[option.key]
            if isinstance(value, Choice | Uniform | LogUniform | IntRange | EnergyRange):
                searched[option.key] = value
            else:
                fixed[option.key] = member_value(option, value)
        return cls(searched, fixed, config.training.seed)

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """Return Optuna's distribution of each searched parameter; empty where nothing is searched.

        Lists are written as JSON, since Optuna keeps categories as plain values. An energy range becomes
        the dropped energy 1 - threshold under a logarithm: uniform in -log(1 - threshold).
        """
        return {
            (DROPPED_ENERGY if isinstance(form, EnergyRange) else key): _distribution(form)
            for key, form in self.searched.items()
        }

    def resolve(self, params: Mapping[str, Any], seed: int) -> MemberConfig:
        """Turn a point of the space into a member.

        A rule may not apply to every basis: a point that combines it with another one is read as the rule in
        the first of its bases.

        Args:
            params: value of each of `distributions`, as an Optuna trial has them.
            seed: seed of the member; the sweep file's `training.seed` takes precedence.

        Raises:
            ValueError: a parameter is missing, unknown or outside its distribution.
        """
        distributions = self.distributions
        if set(params) != set(distributions):
            got = sorted(str(name) for name in params)
            raise ValueError(f"a point of this space has the parameters {sorted(distributions)}, got {got}")
        values = {_field(key): value for key, value in self.fixed.items()}
        for key, form in self.searched.items():
            name = DROPPED_ENERGY if isinstance(form, EnergyRange) else key
            values[_field(key)] = _decoded(name, form, params[name])
        return self._member(values, seed)

    def reference(self, hidden: tuple[int, ...], seed: int) -> MemberConfig:
        """Make the member that ratios are relative to: plainly trained, each setting at its middle value.

        Args:
            hidden: (layers,) widths of the reference network, which the search need not know.
            seed: seed of the member; the sweep file's `training.seed` takes precedence.
        """
        values = {_field(key): value for key, value in self.fixed.items()}
        values |= {_field(key): form.middle for key, form in self.searched.items()}
        values |= {"hidden": hidden, "factors": 1}
        return self._member(values, seed)

    def _member(self, values: dict[str, Any], seed: int) -> MemberConfig:
        if values["basis"] not in (bases := RULES[values["rule"]].bases):
            values["basis"] = bases[0]
        return MemberConfig(**values, seed=seed if self.seed is None else self.seed)

    def encode(self, member: MemberConfig) -> dict[str, Any]:
        """Turn a member into a point of the space, the inverse of `resolve` except for the seed.

        Replace a member's basis, rule or energy to tell Optuna about another of its operating points.

        Raises:
            ValueError: the space does not contain the member; the key and both values are named.
        """
        for key, value in self.fixed.items():
            _check_inside(key, getattr(member, _field(key)), getattr(member, _field(key)) == value, value)
        params: dict[str, Any] = {}
        for key, form in self.searched.items():
            value = getattr(member, _field(key))
            if isinstance(form, EnergyRange):
                params[DROPPED_ENERGY] = _dropped(form, value)
                continue
            held = value in form.options if isinstance(form, Choice) else form.low <= value <= form.high
            _check_inside(key, value, held, form.written())
            params[key] = _category(value) if isinstance(form, Choice) else value
        return params

    def energies(self) -> list[float]:
        """Return the thresholds at which every member is evaluated, ascending.

        Returns:
            For a range its number of points, uniform in -log(1 - threshold); a single one is their middle.
            For a choice its options, for a fixed threshold that one.
        """
        form = self.searched.get("compression.energy")
        if not isinstance(form, EnergyRange):
            return sorted(choices(form or self.fixed["compression.energy"]))
        low, high = _dropped_bounds(form)
        start, stop = -math.log(high), -math.log(low)
        if form.points == 1:
            return [_threshold(math.exp(-(start + stop) / 2))]
        step = (stop - start) / (form.points - 1)
        return [_threshold(math.exp(-(start + step * index))) for index in range(form.points)]

    def bases(self) -> tuple[str, ...]:
        """Return the bases that the search may draw."""
        return self._options("compression.basis")

    def rules(self) -> tuple[str, ...]:
        """Return the rank rules that the search may draw."""
        return self._options("compression.rule")

    def _options(self, key: str) -> tuple[str, ...]:
        return choices(self.searched[key] if key in self.searched else self.fixed[key])


def _field(key: str) -> str:
    return options()[key].field


def _distribution(form: Form) -> BaseDistribution:
    if isinstance(form, Choice):
        return CategoricalDistribution([_category(option) for option in form.options])
    if isinstance(form, IntRange):
        return IntDistribution(form.low, form.high)
    if isinstance(form, EnergyRange):
        return FloatDistribution(*_dropped_bounds(form), log=True)
    return FloatDistribution(form.low, form.high, log=isinstance(form, LogUniform))


def _category(option: Any) -> Any:
    return json.dumps(option) if isinstance(option, tuple) else option


def _decoded(name: str, form: Form, value: Any) -> Any:
    """Return the member's value of one parameter."""
    if isinstance(form, Choice):
        by_category = {_category(option): option for option in form.options}
        _check_inside(name, value, value in list(by_category), list(by_category))
        return by_category[value]
    low, high = _dropped_bounds(form) if isinstance(form, EnergyRange) else (form.low, form.high)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    _check_inside(name, value, number and low <= value <= high, [low, high])
    return _threshold(value) if isinstance(form, EnergyRange) else type(low)(value)


def _threshold(dropped: float) -> float:
    return round(1 - dropped, _DECIMALS)


def _dropped_bounds(form: EnergyRange) -> tuple[float, float]:
    """Return the smallest and the largest dropped energy of a range; never 0, which has no logarithm."""
    low = round(1 - form.high, _DECIMALS)
    return max(low, LEAST_DROPPED_ENERGY), round(1 - form.low, _DECIMALS)


def _dropped(form: EnergyRange, energy: float) -> float:
    low, high = _dropped_bounds(form)
    dropped = round(1 - energy, _DECIMALS)
    # a threshold closer to 1 than the space reaches stands for its end, if the range includes 1
    if form.high >= 1 - LEAST_DROPPED_ENERGY:
        dropped = max(dropped, low)
    _check_inside("compression.energy", energy, low <= dropped <= high, form.written())
    return dropped


def _check_inside(key: str, value: Any, inside: bool, allowed: Any) -> None:
    if not inside:
        raise ValueError(f"{key} got {shown(value)}, must be within {shown(allowed)} in this space")
