"""Every basis keeps the contract."""

from collections.abc import Callable

import pytest

from arsvd.statistics import BASES, best_basis
from arsvd.testing.bases import CHECKS
from arsvd.testing.networks import NETWORKS


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
@pytest.mark.parametrize("net", NETWORKS)
@pytest.mark.parametrize("basis", BASES.names)
def test_every_basis(basis: str, net: str, check: Callable[..., None]) -> None:
    check(basis, net)


def test_the_best_basis_is_the_one_that_looks_at_most() -> None:
    assert best_basis(BASES.names) == "loss"
    assert best_basis(("activation", "weight")) == "activation"
    assert best_basis(("weight",)) == "weight"
