"""`import arsvd` needs no service package, and does not even import one that is there."""

import pkgutil
import subprocess
import sys

import arsvd

HEAVY = (
    "ray", "optuna", "mlflow", "pydantic", "matplotlib", "plotly", "sklearn", "torchvision", "pandas", "rich",
    "click", "sweeps",
)  # fmt: skip


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_is_lean() -> None:
    printed = run(
        "import sys\n"
        f"def heavy(): return [name for name in {HEAVY} if name in sys.modules]\n"
        "import arsvd; print(heavy())\n"
        "import arsvd.training, arsvd.data; print(heavy())\n"
    )
    assert printed.splitlines() == ["[]", "[]"]


def test_the_command_begins_without_torch() -> None:
    """It begins in this package, and nobody waits seconds for its help."""
    printed = run("import sys, arsvd.command; print([n for n in ('torch', 'numpy') if n in sys.modules])")
    assert printed == "[]\n"


def test_every_public_name_is_there() -> None:
    """A module of the same name would hide it once that is imported."""
    modules = {module.name for module in pkgutil.iter_modules(arsvd.__path__)}
    assert len(modules) > 20
    assert not modules & set(arsvd.__all__)
    assert all(callable(getattr(arsvd, name)) for name in arsvd.__all__)


def test_works_where_service_packages_are_missing() -> None:
    """As on a machine with torch alone: importing any of the packages raises."""
    printed = run(
        f"import sys\nfor name in {HEAVY}: sys.modules[name] = None\n"
        "import torch, arsvd\n"
        "model = arsvd.MLP([8, 6, 3]); x = torch.randn(20, 8); spectra = arsvd.spectra(model, x)\n"
        "small = arsvd.compress(model, spectra, arsvd.plan(spectra, arsvd.Energy(0.5)))\n"
        "points = arsvd.front(model, spectra, (x, torch.zeros(20, dtype=torch.int64)))\n"
        "print(len(points) > 0, tuple(small(x).shape))"
    )
    assert printed == "True (20, 3)\n"
