"""Every family of candidates keeps the contract, and is known without torch."""

import subprocess
import sys
from collections.abc import Callable

import pytest

from arsvd.candidates import CANDIDATES
from arsvd.testing.candidates import CHECKS
from arsvd.testing.networks import NETWORKS


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
@pytest.mark.parametrize("net", NETWORKS)
@pytest.mark.parametrize("name", CANDIDATES.names)
def test_every_family(name: str, net: str, check: Callable[..., None]) -> None:
    check(CANDIDATES[name], net)


def test_families_are_known_without_torch() -> None:
    code = (
        "import sys\nfrom arsvd.candidates import CANDIDATES\nfound = dict(CANDIDATES.items())\n"
        "print([name for name in ('torch', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
