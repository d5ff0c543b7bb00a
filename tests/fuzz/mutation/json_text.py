"""Changes of JSON: values of other types, numbers at and past every limit, keys missing, foreign or twice."""

import json
from collections.abc import Sequence
from random import Random
from typing import Any

from tests.fuzz.mutation.raw import mutate_bytes

_DEEP = 100_000
_MOST_TEXT = 2**22  # characters: copies of copies would fill the memory of whoever makes them
# Written out as they are; `json.dumps` could not write them.
_RAW = (
    "[" * _DEEP,
    "[" * _DEEP + "]" * _DEEP,
    '{"a":' * _DEEP + "0" + "}" * _DEEP,
    "1" * 5000,
    "-" + "9" * 4000,
    "1e999",
    "-1e999",
    "NaN",
    "Infinity",
    "-Infinity",
    "1" * 400 + ".0",
    '"\\ud800"',
    '"\\u0000"',
    '{"a": 1, "a": 2}',
)
_VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    1,
    -1,
    2,
    7,
    2**31,
    2**53 + 1,
    2**63,
    2**64,
    10**30,
    10**400,
    0.0,
    -0.0,
    0.5,
    1.0,
    1.5,
    -0.25,
    1e308,
    5e-324,
    "",
    "a",
    "1",
    "0.5",
    "nan",
    "null",
    "../../../outside",
    "/etc/passwd",
    "[/bold]",
    "[red]x",
    "$\\frac{",
    "\x1b[2J\r\n\t\u202e",
    "é" * 300,
    "x" * 100_000,
    "2024-01-01T00:00:00Z",
    [],
    [[]],
    [None],
    [0],
    ["a"],
    [1, 2],
    [1.5, 2.5, 3.5],
    {},
    {"a": 1},
    {"version": 1},
    {"": None},
)
_KEYS = ("", "version", "key", "number", "points", "a", "__class__", "é", "\ud800", "[/b]")


def mutate_json(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Change one or a few places of a document; now and then its bytes."""
    if random.random() < 0.15:
        return mutate_bytes(random, data, others)
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return mutate_bytes(random, data, others)
    marks: dict[str, str] = {}
    for _ in range(random.choice((1, 1, 1, 2, 5))):
        document = _changed(random, document, others, marks)
    text = json.dumps(document)
    for mark, raw in marks.items():
        if len(text) + text.count(f'"{mark}"') * len(raw) > _MOST_TEXT:
            return data
        text = text.replace(f'"{mark}"', raw)
    return _encoded(random, text)


def mutate_value(random: Random, document: Any) -> Any:
    """Change one place of a document that is written out by somebody else."""
    return _changed(random, document, (), None)


def _changed(random: Random, document: Any, others: Sequence[bytes], marks: dict[str, str] | None) -> Any:
    place = _place(random, document)
    if place is None:
        return _value(random, document, others, marks)
    holder, key = place
    kind = random.random()
    if kind < 0.65:
        holder[key] = _value(random, holder[key], others, marks)
    elif kind < 0.75:
        del holder[key]
    elif kind < 0.85 and isinstance(holder, dict):
        holder[random.choice((*_KEYS, str(key).upper()))] = _value(random, holder[key], others, marks)
    elif isinstance(holder, list):
        few = len(json.dumps(holder[key])) > _MOST_TEXT // 50
        holder[key:key] = [holder[key]] * random.choice((1, 2, 2 if few else 50))
    elif marks is not None:
        # the key again, with another value: a raw piece that follows the value
        mark = f"mark-{len(marks)}"
        marks[mark] = f"{json.dumps(holder[key])}, {json.dumps(key)}: {json.dumps(_simple(random))}"
        holder[key] = mark
    return document


def _place(random: Random, document: Any) -> tuple[Any, Any] | None:
    """Walk down at random; None is the document itself."""
    found = None
    here = document
    while isinstance(here, dict | list) and here and (found is None or random.random() < 0.8):
        key = random.choice(list(here)) if isinstance(here, dict) else random.randrange(len(here))
        found = (here, key)
        here = here[key]
    return found if random.random() > 0.03 else None


def _value(random: Random, old: Any, others: Sequence[bytes], marks: dict[str, str] | None) -> Any:
    kind = random.random()
    if kind < 0.2 and marks is not None:
        mark = f"mark-{len(marks)}"
        marks[mark] = random.choice(_RAW)
        return mark
    if kind < 0.35 and isinstance(old, int | float) and not isinstance(old, bool) and abs(old) < 2**200:
        return random.choice((-old, old + 1, old * 1000, old / 3, float(old), str(old), [old], old - 1))
    if kind < 0.45 and isinstance(old, str) and len(old) < _MOST_TEXT // 500:
        return random.choice((old + "x", old[:-1], old.upper(), [old], old * 500, f"{old}\n{old}"))
    if kind < 0.5:
        return [old]
    return _simple(random)


def _simple(random: Random) -> Any:
    return json.loads(json.dumps(random.choice(_VALUES)))


def _encoded(random: Random, text: str) -> bytes:
    kind = random.random()
    if kind < 0.9:
        return text.encode()
    if kind < 0.93:
        return text.encode("utf-16")
    if kind < 0.96:
        return text.encode("utf-8-sig")
    if kind < 0.98:
        return f"\n\n \t{text}\r\n\0".encode()
    return f"{text}{text}".encode()
