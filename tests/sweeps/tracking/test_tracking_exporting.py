"""How many processes write a front's models."""

import pytest

from sweeps.tracking.exporting import processes


@pytest.mark.parametrize(
    ("count", "cores", "number"), [(0, 8, 1), (23, 8, 1), (24, 8, 2), (24, 1, 1), (51, 8, 4), (5000, 64, 16)]
)
def test_processes_are_as_many_as_pay(count: int, cores: int, number: int) -> None:
    assert processes(count, cores) == number
