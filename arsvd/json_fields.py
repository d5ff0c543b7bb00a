"""Dataclasses from JSON that somebody else may have written: each field must be there and of its type.

Whoever uses a record then needs no further checks: a number is finite and fits into 64 bits, a list holds
what its declaration says.
"""

import json
import math
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, TypeVar

T = TypeVar("T")
Check = Callable[[Any], Any]

_LARGEST = 2**63 - 1
# marks a field with the release that introduced it: older files lack it, and mean its default
SINCE = "since"
_SHOWN, _NAMED = 60, 5  # characters of a value, and names of one kind, that an error shows


@dataclass(frozen=True)
class Bounds:
    """Limits of a number, both included; an annotation of the field's type."""

    low: float
    high: float = math.inf


Count = Annotated[int, Bounds(1)]
Size = Annotated[int, Bounds(0)]
Share = Annotated[float, Bounds(0.0, 1.0)]


class _MisfitError(ValueError):
    """A value that does not fit, before the field that holds it is known."""

    def __init__(self, value: object, says: str) -> None:
        text = repr(value) if isinstance(value, bool | int | float | str | None) else type(value).__name__
        super().__init__(f"got {_shortened(text)}, must be {says}")


def read_json(content: bytes | str) -> Any:
    """Read JSON as `json.dumps(…, allow_nan=False)` writes it.

    Raises:
        ValueError: it is not JSON or not UTF-8, is nested too deeply, has a key twice, or holds NaN, infinity
            or half of a character.
    """
    text = content if isinstance(content, str) else content.decode()
    try:
        values = json.loads(text, object_pairs_hook=_without_repetition, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if "\\ud" in text or "\\uD" in text:  # half of a pair can be written escaped, but not printed
        json.dumps(values, ensure_ascii=False).encode()
    return values


def read_fields(kind: type[T], values: object, what: str, defaults: bool = False) -> T:
    """Make a dataclass from its fields' JSON values.

    Args:
        kind: dataclass whose fields are numbers, texts, lists, mappings or other dataclasses.
        values: JSON value for it.
        what: beginning of an error message, such as "not a whole front".
        defaults: True if every field that has a default may be missing; otherwise only those marked with
            `SINCE`.

    Raises:
        ValueError: fields are missing, unknown or of another type; all of them are named.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{what}: {_MisfitError(values, 'a mapping')}")
    checks, optional, later = _checks(typing.cast(Any, kind))
    missing = checks.keys() - values.keys() - (optional if defaults else later)
    faults = [f"missing {name}" for name in sorted(missing)]
    faults += _unknown(values.keys() - checks.keys())
    checked: dict[str, Any] = {}
    for name, check in checks.items():
        if name in values:
            try:
                checked[name] = check(values[name])
            except ValueError as error:
                joint = " " if isinstance(error, _MisfitError) else ": "
                faults.append(f"{name}{joint}{error}")
    if faults:
        raise ValueError(f"{what}: {', '.join(faults)}")
    return kind(**checked)


def _unknown(names: set[Any]) -> list[str]:
    shown = sorted(str(name) for name in names)
    faults = [f"unknown {_shortened(name if name.isprintable() else repr(name))}" for name in shown[:_NAMED]]
    return faults + ([f"{len(shown) - _NAMED} more unknown"] if len(shown) > _NAMED else [])


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


@cache
def _checks(kind: type[Any]) -> tuple[dict[str, Check], set[str], set[str]]:
    """Return the check of each field, the names of fields with a default, and those of later ones."""
    hints = typing.get_type_hints(kind, include_extras=True)
    listed = fields(kind)
    optional = {f.name for f in listed if f.default is not MISSING or f.default_factory is not MISSING}
    later = {field.name for field in listed if SINCE in field.metadata}
    return {field.name: _check(hints[field.name]) for field in listed}, optional, later


def _check(hint: Any) -> Check:
    """Make the check of a declared type."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _bounded(_check(inner[0]), inner[1])
    if origin in (types.UnionType, typing.Union):
        (given,) = [_check(one) for one in inner if one is not type(None)]
        return lambda value: None if value is None else given(value)
    if origin is tuple and inner[-1] is not Ellipsis:
        return _row([_check(one) for one in inner])
    if origin in (tuple, list):
        return _listed(_check(inner[0]), origin)
    if origin is dict:
        return _mapped(_check(inner[1]))
    if is_dataclass(hint):
        return typing.cast(Check, hint.from_dict) if hasattr(hint, "from_dict") else _nested(hint)
    return _SIMPLE[hint]


def _nested(kind: Any) -> Check:
    return lambda value: read_fields(kind, value, f"not a whole {kind.__name__}")


def _bounded(check: Check, bounds: Bounds) -> Check:
    says = f"at least {bounds.low:g}"
    if bounds.high < math.inf:
        says = f"from {bounds.low:g} to {bounds.high:g}"

    def bounded(value: object) -> Any:
        number = check(value)
        if not bounds.low <= number <= bounds.high:
            raise _MisfitError(value, says)
        return number

    return bounded


def _row(checks: list[Check]) -> Check:
    def row(value: object) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple) or len(value) != len(checks):
            raise _MisfitError(value, f"a list of {len(checks)}")
        return tuple(check(item) for check, item in zip(checks, value, strict=True))

    return row


def _listed(check: Check, kind: Callable[[list[Any]], Any]) -> Check:
    def listed(value: object) -> Any:
        if not isinstance(value, list | tuple):
            raise _MisfitError(value, "a list")
        return kind([check(item) for item in value])

    return listed


def _mapped(check: Check) -> Check:
    def mapped(value: object) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise _MisfitError(value, "a mapping")
        return {_text(key): check(item) for key, item in value.items()}

    return mapped


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _MisfitError(value, "a whole number")
    if not -_LARGEST <= value <= _LARGEST:
        raise _MisfitError(value, "a number of at most 64 bits")
    return value


def _number(value: object) -> float:
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > _LARGEST:
        raise _MisfitError(value, "a finite number")
    return float(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise _MisfitError(value, "text")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise _MisfitError(value, "true or false")
    return value


_SIMPLE: dict[Any, Check] = {int: _whole, float: _number, str: _text, bool: _flag, Any: lambda value: value}


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("it has a key twice")
    return values


def _refuse_constant(name: str) -> float:
    raise ValueError(f"it holds {name}, which is no number of JSON")
