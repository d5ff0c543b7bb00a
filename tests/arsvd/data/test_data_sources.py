"""Every data source keeps the contract."""

from collections.abc import Callable
from pathlib import Path

import pytest

from arsvd.data.sources import SOURCES
from arsvd.testing.sources import CHECKS


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
@pytest.mark.parametrize("name", SOURCES.names)
def test_every_source(name: str, check: Callable[..., None], tmp_path: Path) -> None:
    check(SOURCES[name], tmp_path)
