"""Every objective gives a number of a point, and says which way is better."""

import math
import subprocess
import sys

import pytest

import arsvd
from sweeps.search.objectives import OBJECTIVES

POINT = arsvd.OperatingPoint((2, None), 100, 90, 0.75, 0.7, 0.4, "energy", "loss", 0.9)


@pytest.mark.parametrize("name", OBJECTIVES.names)
def test_every_objective(name: str) -> None:
    objective = OBJECTIVES[name]
    assert objective.of(POINT) == getattr(POINT, name)
    assert math.isfinite(objective.of(POINT))
    assert objective.direction == ("maximize" if name in ("accuracy", "macro_f1") else "minimize")


def test_objectives_are_known_without_torch_and_optuna() -> None:
    code = (
        "import sys\nfrom sweeps.search.objectives import OBJECTIVES\ndict(OBJECTIVES.items())\n"
        "print([name for name in ('torch', 'optuna', 'ray') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
