"""JSON of unknown origin becomes a dataclass of the declared types, or an error that names each fault."""

from dataclasses import asdict, dataclass, field
from typing import Any

import pytest

from arsvd import OperatingPoint, Plan
from arsvd.evaluation.latency import Latency
from arsvd.json_fields import SINCE, Count, Share, Size, read_fields, read_json
from arsvd.planning import LayerPlan


@dataclass(frozen=True)
class Inner:
    name: str


@dataclass(frozen=True)
class Outer:
    count: Count
    share: Share
    number: float | None
    flag: bool
    pair: tuple[Size, Size]
    ranks: tuple[int | None, ...]
    curves: dict[str, list[float]]
    inner: Inner
    late: str = "late"


WHOLE: dict[str, Any] = {
    "count": 1,
    "share": 1,
    "number": None,
    "flag": True,
    "pair": [0, 2],
    "ranks": [3, None],
    "curves": {"loss": [1, 0.5]},
    "inner": {"name": "é"},
    "late": "x",
}


def test_each_field_has_its_declared_type() -> None:
    found = read_fields(Outer, WHOLE, "not whole")
    assert found == Outer(1, 1.0, None, True, (0, 2), (3, None), {"loss": [1.0, 0.5]}, Inner("é"), "x")
    assert isinstance(found.share, float)
    assert isinstance(found.curves["loss"][0], float)
    early = {name: value for name, value in WHOLE.items() if name != "late"}
    assert read_fields(Outer, early, "not whole", defaults=True).late == "late"


@dataclass(frozen=True)
class Grown:
    name: str = "unnamed"
    later: int = field(default=3, metadata={SINCE: "0.2.0"})


def test_only_fields_of_later_releases_may_be_missing() -> None:
    assert read_fields(Grown, {"name": "x"}, "not whole") == Grown("x", 3)
    with pytest.raises(ValueError, match="not whole: missing name"):
        read_fields(Grown, {"later": 4}, "not whole")


# name: a change of the whole values, the error's text
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "flag as a number": ({"count": True}, "count got True, must be a whole number"),
    "a fraction as a count": ({"count": 1.0}, "count got 1.0, must be a whole number"),
    "nothing as a count": ({"count": None}, "count got None, must be a whole number"),
    "below": ({"count": 0}, "count got 0, must be at least 1"),
    "past 64 bits": ({"count": 2**63}, "at most 64 bits"),
    "hundreds of digits": ({"share": 10**400}, "must be a finite number"),
    "infinity": ({"number": float("inf")}, "number got inf, must be a finite number"),
    "NaN": ({"share": float("nan")}, "share got nan, must be a finite number"),
    "past a share": ({"share": 1.5}, "share got 1.5, must be from 0 to 1"),
    "text as a number": ({"number": "1"}, "number got '1', must be a finite number"),
    "number as a flag": ({"flag": 1}, "flag got 1, must be true or false"),
    "three as a pair": ({"pair": [1, 2, 3]}, "pair got list, must be a list of 2"),
    "text as a list": ({"ranks": "12"}, "ranks got '12', must be a list"),
    "text in a list": ({"ranks": ["a"]}, "ranks got 'a', must be a whole number"),
    "a list as a mapping": ({"curves": []}, "curves got list, must be a mapping"),
    "a list within": ({"inner": {"name": []}}, "inner: not a whole Inner: name got list, must be text"),
    "an unknown key": ({"a\x1b[2J": 1}, r"unknown 'a\\x1b\[2J'"),
    "many unknown keys": ({f"k{n}": 1 for n in range(9)}, "unknown k4, 4 more unknown"),
    "long text": ({"count": "x" * 9999}, "count got 'x{59}…, must be"),
}


@pytest.mark.parametrize(("change", "text"), WRONG.values(), ids=WRONG)
def test_a_value_of_another_type_is_named(change: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=f"^not whole: .*{text}"):
        read_fields(Outer, {**WHOLE, **change}, "not whole")


def test_all_faults_are_named_at_once() -> None:
    values = {**WHOLE, "share": 2, "taste": 1}
    del values["flag"]
    with pytest.raises(ValueError, match=r"^not whole: missing flag, unknown taste, share got 2, must be"):
        read_fields(Outer, values, "not whole")
    for value in (None, 3, "text", [WHOLE]):
        with pytest.raises(ValueError, match="must be a mapping"):
            read_fields(Outer, value, "not whole")


UNREADABLE: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "Expecting value"),
    "lists too deep": (b"[" * 100_000, "nested too deeply"),
    "mappings too deep": (b'{"a":' * 100_000, "nested too deeply"),
    "NaN": (b'{"a": NaN}', "NaN"),
    "infinity": (b"[-Infinity]", "-Infinity"),
    "thousands of digits": (b"1" * 5000, "4300 digits"),
    "a key twice": (b'{"a": {"b": 1, "b": 2}}', "a key twice"),
    "half of a character": (b'["\\ud83d"]', "surrogates not allowed"),
    "UTF-16": ("[]".encode("utf-16"), "utf-8"),
    "two documents": (b"{}{}", "Extra data"),
}


@pytest.mark.parametrize(("content", "text"), UNREADABLE.values(), ids=UNREADABLE)
def test_invalid_json_is_a_value_error(content: bytes, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        read_json(content)


def test_a_whole_character_may_be_escaped() -> None:
    assert read_json(b'{"\\ud83d\\ude00": "\\udbff\\udfff"}') == {"\U0001f600": "\U0010ffff"}


POINT = OperatingPoint(
    (3, None), 10, 8, 0.9, 0.8, 0.3, "energy", "weight", 0.5, bits=97, formats=("low_rank", "dense")
)
TIMES = Latency(1, 1, "cpu", 20, 8.0, 9.0, 16.0, 17.0)
PLAN = Plan("weight", "energy", 0.5, (LayerPlan("fc", 4, 3, 1, 0.5, 7, 7),), 11, 7, 16, 12)
STRANGE: list[Any] = ["a", [], {}, True, float("nan"), 10**400, -1.5]


@pytest.mark.parametrize("record", [POINT, TIMES, PLAN], ids=lambda record: type(record).__name__)
def test_no_field_of_a_record_takes_a_value_of_another_type(record: Any) -> None:
    values = record.to_dict()
    assert type(record).from_dict(values) == record
    for name in asdict(record):
        for strange in STRANGE:
            if type(strange) is type(values[name]) or (name == "layers" and strange == []):
                continue  # another text or number is one all the same
            with pytest.raises(ValueError, match=name):
                type(record).from_dict({**values, name: strange})
