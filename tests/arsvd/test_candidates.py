"""Every family of candidates keeps the contract."""

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
