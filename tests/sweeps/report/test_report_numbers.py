"""No number is shown with the digits that arithmetic left in it."""

import json
import math
import random

import pytest
from click.testing import CliRunner

from sweeps.cli.options import echo_json
from sweeps.report.numbers import shown


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        (0.1 + 0.2, 0.3),
        (0.9772000000000001, 0.9772),
        (1 - 0.7, 0.3),
        (1 / 3, 0.3333333333),
        (5e-324, 5e-324),
        (12_345_678.900000001, 12_345_678.9),
        (0, 0),
        (10**30, 10**30),
        (True, True),
        (None, None),
        ("0.30000000000000004", "0.30000000000000004"),
        ([0.1 + 0.2, {"a": (0.1 + 0.2, 7)}], [0.3, {"a": [0.3, 7]}]),
    ],
)
def test_values_are_rounded_for_display(value: object, seen: object) -> None:
    assert shown(value) == seen
    assert type(shown(value)) is type(seen)


def test_ten_digits_stay() -> None:
    draw = random.Random(0)
    for _ in range(1000):
        value = draw.uniform(-1, 1) * 10 ** draw.randint(-20, 20)
        assert math.isclose(shown(value), value, rel_tol=1e-9)
        assert shown(shown(value)) == shown(value)
        assert len(repr(shown(value)).split("e")[0].strip("-0.").replace(".", "")) <= 10


def test_json_for_scripts_is_rounded(capsys: pytest.CaptureFixture[str]) -> None:
    import click

    @click.command()
    def command() -> None:
        echo_json({"threshold": 0.1 + 0.2, "params": 7, "none": None})

    said = CliRunner().invoke(command).stdout
    assert json.loads(said) == {"threshold": 0.3, "params": 7, "none": None}
