"""The searched forms of a value: choice, uniform, loguniform, int, and the energy range."""

import math
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from arsvd.options.faults import FaultError, did_you_mean, listed, shown
from arsvd.options.kinds import Kind, Number, OneOf, Whole

T = TypeVar("T")

# A threshold of 1 drops no energy and log(1 - 1) has no value, so a range that is uniform in -log(1 -
# threshold) has to stop short of 1. A dropped share of 1e-6 is below what a validation set can show.
LEAST_DROPPED_ENERGY = 1e-6
DEFAULT_POINTS = 48
MOST_POINTS = 10_000


@dataclass(frozen=True)
class Choice(Generic[T]):
    """One of a few given values."""

    options: tuple[T, ...]

    def written(self) -> dict[str, Any]:
        """Return the form as the sweep file holds it."""
        return {"choice": [list(option) if isinstance(option, tuple) else option for option in self.options]}

    @property
    def middle(self) -> T:
        """Middle one of the values if they are numbers, the smaller of two; otherwise the first one."""
        numbers = [option for option in self.options if isinstance(option, int | float)]
        if len(numbers) < len(self.options) or any(isinstance(option, bool) for option in numbers):
            return self.options[0]
        ordered: list[Any] = sorted(numbers)
        middle: T = ordered[(len(ordered) - 1) // 2]
        return middle


@dataclass(frozen=True)
class Uniform:
    """Any number from low to high."""

    low: float
    high: float

    def written(self) -> dict[str, Any]:
        """Return the form as the sweep file holds it."""
        return {"uniform": [self.low, self.high]}

    @property
    def middle(self) -> float:
        """Number halfway."""
        return _short((self.low + self.high) / 2, self.low, self.high)


@dataclass(frozen=True)
class LogUniform:
    """Any number from low to high, uniform in its logarithm."""

    low: float
    high: float

    def written(self) -> dict[str, Any]:
        """Return the form as the sweep file holds it."""
        return {"loguniform": [self.low, self.high]}

    @property
    def middle(self) -> float:
        """Number halfway in the logarithm."""
        return _short(math.sqrt(self.low * self.high), self.low, self.high)


@dataclass(frozen=True)
class IntRange:
    """Any whole number from low to high, both included."""

    low: int
    high: int

    def written(self) -> dict[str, Any]:
        """Return the form as the sweep file holds it."""
        return {"int": [self.low, self.high]}

    @property
    def middle(self) -> int:
        """Number halfway, rounded down."""
        return (self.low + self.high) // 2


@dataclass(frozen=True)
class EnergyRange:
    """Thresholds from low to high, uniform in -log(1 - threshold); the search draws any of them.

    Args:
        low: smallest threshold.
        high: largest threshold; 1 is read as 1 - `LEAST_DROPPED_ENERGY`.
        points: number of thresholds at which every trained member is evaluated.
    """

    low: float
    high: float
    points: int

    def written(self) -> dict[str, Any]:
        """Return the form as the sweep file holds it."""
        return {"range": [self.low, self.high], "points": self.points}

    @property
    def middle(self) -> float:
        """Threshold halfway in -log(1 - threshold)."""
        dropped = math.sqrt((1 - self.low) * max(1 - self.high, LEAST_DROPPED_ENERGY))
        return _short(1 - dropped, self.low, self.high)


def _short(value: float, low: float, high: float) -> float:
    """Round to a number that a person would write, within bounds."""
    return min(max(float(f"{value:.6g}"), low), high)


Form = Choice[Any] | Uniform | LogUniform | IntRange | EnergyRange

WRITTEN = {
    "choice": "{choice: [...]}",
    "uniform": "{uniform: [lo, hi]}",
    "loguniform": "{loguniform: [lo, hi]}",
    "int": "{int: [lo, hi]}",
    "range": "{range: [lo, hi], points: n}",
}


@dataclass(frozen=True)
class Searchable(Generic[T]):
    """A plain value of a kind, or one of the searched forms that the key takes.

    Args:
        kind: check of a plain value, an option or a bound.
        forms: names of the forms that the key takes.
    """

    kind: Kind[T]
    forms: tuple[str, ...]

    @property
    def allowed(self) -> str:
        plain = self.kind.names if isinstance(self.kind, OneOf) else [self.kind.allowed]
        return listed([*plain, *(WRITTEN[form] for form in self.forms)])

    def __call__(self, value: object) -> "T | Form":
        if not isinstance(value, dict):
            try:
                return self.kind(value)
            except FaultError as fault:
                raise FaultError(f"got {shown(value)}, must be {self.allowed}", fault.hint) from None
        form = self._form_of(value)
        if form == "choice":
            return self._choice(value["choice"])
        if form == "range":
            return self._energy_range(value)
        low, high = self._bounds(value[form], form)
        if form == "int":
            return IntRange(int(low), int(high))
        return Uniform(low, high) if form == "uniform" else LogUniform(low, high)

    def _form_of(self, value: dict[str, Any]) -> str:
        """Return the name of the one form that a mapping spells, or raise a fault."""
        companions = {"points"} if "range" in value and "range" in self.forms else set()
        names = [name for name in value if name not in companions]
        if len(names) == 1 and names[0] in self.forms:
            return names[0]
        known = [name for name in names if name in self.forms]
        if len(known) > 1:
            raise FaultError(f"got the forms {listed(known, 'and')}, must be only one of them")
        candidates = [*self.forms, *(["points"] if "range" in self.forms else [])]
        wrong = next((name for name in names if name not in self.forms), None)
        raise FaultError(
            f"got {shown(value)}, must be {self.allowed}",
            did_you_mean(wrong, [name for name in candidates if name not in value]),
        )

    def _choice(self, options: object) -> Choice[T]:
        if not isinstance(options, list | tuple) or not options:
            text = f"got {shown(options)}, must be a list of at least one value"
            raise FaultError(text, parts=[("choice", text)])
        checked: list[T] = []
        parts: list[tuple[str, str]] = []
        for index, option in enumerate(options):
            path = f"choice[{index}]"
            try:
                result = self.kind(option)
            except FaultError as fault:
                parts += [(path, text) for _, text in fault.parts]
                continue
            if result in checked:
                parts.append((path, f"got {shown(option)}, which is in the list already"))
            checked.append(result)
        if parts:
            raise FaultError("", parts=parts)
        return Choice(tuple(checked))

    def _bounds(self, bounds: object, form: str) -> tuple[float, float]:
        if not isinstance(bounds, list | tuple) or len(bounds) != 2:
            text = f"got {shown(bounds)}, must be two numbers [lo, hi]"
            raise FaultError(text, parts=[(form, text)])
        parts: list[tuple[str, str]] = []
        checked: list[Any] = []
        for name, bound in zip(("lo", "hi"), bounds, strict=True):
            try:
                checked.append(self._bound_kind(form)(bound))
            except FaultError as fault:
                parts += [(form, f"{name} {text}") for _, text in fault.parts]
        if not parts and checked[0] >= checked[1]:
            parts.append((form, f"got {shown(list(bounds))}, lo must be below hi"))
        if parts:
            raise FaultError("", parts=parts)
        return checked[0], checked[1]

    def _bound_kind(self, form: str) -> Kind[Any]:
        # a logarithm needs lo > 0, also where a plain value may be 0
        if form == "loguniform" and isinstance(self.kind, Number) and self.kind.low <= 0:
            return Number(0, self.kind.high, low_open=True, high_open=self.kind.high_open)
        return self.kind

    def _energy_range(self, value: dict[str, Any]) -> EnergyRange:
        parts: list[tuple[str, str]] = []
        low, high, points = 0.0, 0.0, DEFAULT_POINTS
        try:
            low, high = self._bounds(value["range"], "range")
        except FaultError as fault:
            parts += fault.parts
        else:
            if low >= 1 - LEAST_DROPPED_ENERGY:
                parts.append(("range", f"lo got {shown(low)}, must be below {1 - LEAST_DROPPED_ENERGY}"))
        try:
            points = Whole(1, MOST_POINTS)(value.get("points", points))
        except FaultError as fault:
            parts += [("points", text) for _, text in fault.parts]
        if parts:
            raise FaultError("", parts=parts)
        return EnergyRange(low, high, points)
