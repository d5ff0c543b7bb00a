"""Every sampler that a sweep file may name keeps the contract."""

from collections.abc import Callable

import pytest

from arsvd.registry import UnknownMethodError
from sweeps.samplers import SAMPLERS
from sweeps.testing.samplers import CHECKS


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
@pytest.mark.parametrize("name", SAMPLERS.names)
def test_every_sampler(name: str, check: Callable[..., None]) -> None:
    check(SAMPLERS[name])


def test_an_unknown_sampler_is_refused() -> None:
    says = "unknown sampler 'grid'; there are tpe, nsga2, random and qmc"
    with pytest.raises(UnknownMethodError, match=says):
        SAMPLERS["grid"]
