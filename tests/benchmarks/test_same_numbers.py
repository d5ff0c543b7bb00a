"""The comparison of two commits' sweeps."""

from typing import Any

import pytest

from benchmarks.same_numbers import compare

RUN: dict[str, Any] = {
    "digits": {"members": [{"number": 0, "curves": {"lr": [0.1, 0.2]}}], "front": {"best": None}}
}
# name: what the other run has, what is printed, the exit status
OTHERS: dict[str, tuple[dict[str, Any], str, int]] = {
    "the same": (RUN, "equal bit for bit: 4 values\n", 0),
    "one bit": (
        {
            "digits": {
                "members": [{"number": 0, "curves": {"lr": [0.1, 0.2 + 2**-55]}}],
                "front": {"best": None},
            }
        },
        "digits.members[0].curves.lr[1]: 0.2, 0.20000000000000004\n1 numbers differ\n",
        1,
    ),
    "a whole number": (
        {"digits": {"members": [{"number": 0.0, "curves": {"lr": [0.1, 0.2]}}], "front": {"best": None}}},
        "digits.members[0].number: 0, 0.0\n1 numbers differ\n",
        1,
    ),
    "a member less, and a best one": (
        {"digits": {"members": [], "front": {"best": 1}}},
        "digits.front.best: None, 1\ndigits.members: 1 entries, 0 entries\n2 numbers differ\n",
        1,
    ),
    "another sweep": ({}, f"digits: {str(RUN['digits'])[:60]}…, 'nothing'\n1 numbers differ\n", 1),
}


@pytest.mark.parametrize("name", OTHERS)
def test_two_runs_are_compared_bit_for_bit(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    other, text, status = OTHERS[name]
    assert compare(RUN, other) == status
    assert capsys.readouterr().out == text
