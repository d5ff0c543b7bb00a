"""Every data source keeps the contract, and is known without torch."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from arsvd.data import NAMES
from arsvd.data.sources import SOURCES
from arsvd.testing.sources import CHECKS


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
@pytest.mark.parametrize("name", SOURCES.names)
def test_every_source(name: str, check: Callable[..., None], tmp_path: Path) -> None:
    check(SOURCES[name], tmp_path)


def test_sources_are_known_without_torch() -> None:
    code = (
        "import sys\nfrom arsvd.data.sources import SOURCES\n"
        "print([(name, len(source.options)) for name, source in SOURCES.items()])\n"
        "print([name for name in ('torch', 'numpy', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    listed, heavy = done.stdout.splitlines()
    assert all(name in listed for name in NAMES)
    assert heavy == "[]"
