"""Every registry of every package: its methods are known without what takes long to import."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "numpy", "sklearn", "optuna", "ray")


def _registries() -> list[str]:
    """Find each `NAME: Registry[...] = ...` of the packages, as module:NAME."""
    found = []
    for package in ("arsvd", "sweeps"):
        for path in sorted((ROOT / package).rglob("__init__.py")):
            for line in ast.parse(path.read_text()).body:
                if isinstance(line, ast.AnnAssign) and ast.unparse(line.annotation).startswith("Registry["):
                    module = ".".join(path.parent.relative_to(ROOT).parts)
                    found.append(f"{module}:{ast.unparse(line.target)}")
    return found


def test_all_registries_are_found() -> None:
    made = [path for name in ("arsvd", "sweeps") for path in (ROOT / name).rglob("*.py")]
    assert len(_registries()) == sum(path.read_text().count("] = Registry(") for path in made) > 7


# no sweep file names a site: whoever asks for one has a model at hand
@pytest.mark.parametrize("place", [place for place in _registries() if place != "arsvd.sites:SITES"])
def test_methods_are_known_without_heavy_imports(place: str) -> None:
    module, name = place.split(":")
    code = (
        f"import sys\nfrom {module} import {name}\nprint(len(dict({name}.items())) == len({name}) > 0)\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n[]\n"
