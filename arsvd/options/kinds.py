"""What one value of a sweep file may be: numbers, names, lists of widths.

Each kind is called with a raw value, returns it in its final type and raises `FaultError` for anything else;
``allowed`` says in plain words what it takes.
"""

import math
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from arsvd.names import plain
from arsvd.options.faults import FaultError, did_you_mean, listed, shown

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

# Numbers beyond these fit into no memory, whatever the machine. What fits into this machine's is known when
# the sizes of the data are: see `sweeps.run.resources` and `arsvd.data`.
MOST_COUNT, MOST_PIXELS, MOST_WIDTH, MOST_LAYERS, MOST_FACTORS = 10_000_000, 10_000, 1_000_000, 100, 100
SEED_LIMIT = 2**32 - 1  # NumPy's legacy generator, which Optuna's samplers use, takes no larger seed


class Kind(Protocol[T_co]):
    """A check of one value."""

    @property
    def allowed(self) -> str: ...

    def __call__(self, value: object) -> T_co: ...


def refuse(value: object, allowed: str, hint: str = "") -> FaultError:
    """Build the fault of a value that is not what ``allowed`` says."""
    return FaultError(f"got {shown(value)}, must be {allowed}", hint)


@dataclass(frozen=True)
class Number:
    """A finite number between two bounds; whole numbers are accepted too, and become floats."""

    low: float = -math.inf
    high: float = math.inf
    low_open: bool = False
    high_open: bool = False

    @property
    def allowed(self) -> str:
        bounds = []
        if self.low > -math.inf:
            bounds.append(f"{'>' if self.low_open else '>='} {self.low:g}")
        if self.high < math.inf:
            bounds.append(f"{'<' if self.high_open else '<='} {self.high:g}")
        return " ".join(["a number", " and ".join(bounds)]).strip()

    def __call__(self, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise refuse(value, self.allowed)
        inside = (value > self.low if self.low_open else value >= self.low) and (
            value < self.high if self.high_open else value <= self.high
        )
        if not inside or not math.isfinite(value):
            raise refuse(value, self.allowed)
        return float(value)


@dataclass(frozen=True)
class Whole:
    """A whole number between two bounds, both included.

    Args:
        low: smallest number allowed.
        high: largest number that is a sensible choice; messages name it with `low`.
        most: largest number that a machine's memory could hold; messages name it only where it is exceeded.
    """

    low: int
    high: int | None = None
    most: int | None = None

    @property
    def allowed(self) -> str:
        if self.high is None:
            return f"a whole number >= {self.low}"
        return f"a whole number from {self.low} to {self.high}"

    def __call__(self, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise refuse(value, self.allowed)
        if value < self.low or (self.high is not None and value > self.high):
            raise refuse(value, self.allowed)
        if self.most is not None and value > self.most:
            raise refuse(value, self.allowed, f"; the most is {self.most}")
        return value


@dataclass(frozen=True)
class Portion:
    """A part of a data set: a count of images, or a fraction of them."""

    allowed: str = "a count of images >= 1 or a fraction > 0 and < 1"

    def __call__(self, value: object) -> int | float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise refuse(value, self.allowed)
        if (isinstance(value, int) and value >= 1) or 0.0 < value < 1.0:
            return value
        raise refuse(value, self.allowed)


@dataclass(frozen=True)
class Sides:
    """The size of an image in pixels: one number, or height and width."""

    allowed: str = "a whole number of pixels >= 1 or a list [height, width] of two"

    def __call__(self, value: object) -> int | tuple[int, ...]:
        sides: list[Any] = list(value) if isinstance(value, list | tuple) and len(value) == 2 else [value]
        if any(isinstance(side, bool) or not isinstance(side, int) or side < 1 for side in sides):
            raise refuse(value, self.allowed)
        if max(sides) > MOST_PIXELS:
            raise refuse(value, self.allowed, f"; the most is {MOST_PIXELS}")
        return sides[0] if isinstance(value, int) else tuple(sides)


@dataclass(frozen=True)
class OneOf(Generic[T]):
    """One of a few values, compared with their type, so that 1 is not taken for true."""

    options: tuple[T, ...]

    @property
    def names(self) -> list[str]:
        return [option if isinstance(option, str) else shown(option) for option in self.options]

    @property
    def allowed(self) -> str:
        return listed(self.names)

    def __call__(self, value: object) -> T:
        for option in self.options:
            if type(option) is type(value) and option == value:
                return option
        raise refuse(value, self.allowed, did_you_mean(value, self.names))


@dataclass(frozen=True)
class AutoOr(Generic[T_co]):
    """The word auto, or a value of another kind."""

    kind: Kind[T_co]

    @property
    def allowed(self) -> str:
        return f"auto or {self.kind.allowed}"

    def __call__(self, value: object) -> T_co | str:
        if value == "auto":
            return "auto"
        try:
            return self.kind(value)
        except FaultError as fault:
            hint = did_you_mean(value, ["auto"]) or fault.hint
            raise refuse(value, self.allowed, hint) from None


@dataclass(frozen=True)
class OrNothing(Generic[T_co]):
    """Nothing, or a value of another kind."""

    kind: Kind[T_co]

    @property
    def allowed(self) -> str:
        return self.kind.allowed

    def __call__(self, value: object) -> T_co | None:
        return None if value is None else self.kind(value)


@dataclass(frozen=True)
class Text:
    """Text of a given pattern."""

    pattern: str
    allowed: str

    def __call__(self, value: object) -> str:
        if not isinstance(value, str) or not re.fullmatch(self.pattern, value):
            raise refuse(value, self.allowed)
        return value


@dataclass(frozen=True)
class Label:
    """A name, in letters of any script, that can be part of an address."""

    allowed: str = "up to 64 letters of any script, digits, dots, hyphens and underscores"

    def __call__(self, value: object) -> str:
        text = unicodedata.normalize("NFC", value) if isinstance(value, str) else ""
        if not 1 <= len(text) <= 64 or plain(text) != text or not plain(text, kept="").strip("-"):
            raise refuse(value, self.allowed)
        return text


@dataclass(frozen=True)
class Widths:
    """The widths of the hidden layers, first layer first."""

    allowed: str = "a list like [512, 256] of whole numbers >= 1"

    def __call__(self, value: object) -> tuple[int, ...]:
        if not isinstance(value, list | tuple) or not value:
            raise refuse(value, self.allowed)
        if any(isinstance(width, list) for width in value):
            raise refuse(value, self.allowed, "; write {choice: [...]} to search over several networks")
        if any(isinstance(width, bool) or not isinstance(width, int) or width < 1 for width in value):
            raise refuse(value, self.allowed)
        if len(value) > MOST_LAYERS or max(value) > MOST_WIDTH:
            raise refuse(value, self.allowed, f"; the most is {MOST_LAYERS} layers of {MOST_WIDTH} units")
        return tuple(value)


@dataclass(frozen=True)
class DistinctNames:
    """A list of different names, at least one.

    Args:
        options: names to choose from.
        retired: reasons for the removal of names, by name.
    """

    options: tuple[str, ...]
    retired: Mapping[str, str] = field(default_factory=dict)

    @property
    def allowed(self) -> str:
        return f"a list of different names out of {listed(self.options, 'and')}"

    def __call__(self, value: object) -> tuple[str, ...]:
        if not isinstance(value, list | tuple) or not value:
            raise refuse(value, self.allowed)
        for name in value:
            if name not in self.options:
                gone = self.retired.get(name) if isinstance(name, str) else None
                hint = f"; {name}: {gone}" if gone else did_you_mean(name, self.options)
                raise refuse(value, self.allowed, hint)
        if len(set(value)) != len(value):
            raise refuse(value, self.allowed)
        return tuple(value)
