"""Every objective gives a number of a point, and says which way is better."""

import math

import pytest

import arsvd
from sweeps.objectives import OBJECTIVES

POINT = arsvd.OperatingPoint((2, None), 100, 90, 0.75, 0.7, 0.4, "energy", "loss", 0.9)


@pytest.mark.parametrize("name", OBJECTIVES.names)
def test_every_objective(name: str) -> None:
    objective = OBJECTIVES[name]
    assert objective.of(POINT) == (POINT.cost.bits if name == "bits" else getattr(POINT, name))
    assert math.isfinite(objective.of(POINT))
    assert objective.direction == ("maximize" if name in ("accuracy", "macro_f1") else "minimize")
