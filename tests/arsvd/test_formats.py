"""Every format keeps the contract."""

from collections.abc import Callable

import pytest
from torch import nn

import arsvd
from arsvd.formats import FORMATS
from arsvd.statistics import BASES
from arsvd.testing.formats import CHECKS
from arsvd.testing.networks import NETWORKS

SEARCHED = [name for name, format in FORMATS.items() if format.searched]


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
@pytest.mark.parametrize("net", NETWORKS)
@pytest.mark.parametrize("basis", BASES.names)
@pytest.mark.parametrize("format", SEARCHED)
def test_every_format(format: str, basis: str, net: str, check: Callable[..., None]) -> None:
    check(format, basis, net)


def test_a_dense_site_has_no_sizes() -> None:
    with pytest.raises(ValueError, match="a dense site has no sizes to choose from"):
        arsvd.spectra(nn.Linear(3, 3), format="dense")


def test_an_unknown_format_is_named() -> None:
    with pytest.raises(ValueError, match="unknown format 'low_rnk'; did you mean low_rank"):
        arsvd.spectra(nn.Linear(3, 3), format="low_rnk")
