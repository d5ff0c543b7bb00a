"""What docs/extending.md prints is run, in processes where its files and its lines are there."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).parents[2] / "docs" / "extending.md"
SCRIPT = """
import sys, types
from arsvd.rules import RULES

module = types.ModuleType("arsvd.rules.numerical")
sys.modules[module.__name__] = module
exec(compile(open(sys.argv[1]).read(), "numerical.py", "exec"), module.__dict__)
RULES._entries.update(eval("{" + sys.argv[2] + "}"))

from sweeps.config import load_config
from sweeps.config.table import keys_table

assert "torch" not in sys.modules
searched = load_config("digits", ["compression.rule={choice: [energy, numerical]}"])
assert searched.compression.rule.options == ("energy", "numerical")
assert "energy, entropy, numerical or {choice: [...]}" in keys_table()

from arsvd.testing.networks import NETWORKS
from arsvd.testing.rules import CHECKS
for check in CHECKS.values():
    for net in NETWORKS:
        for basis in RULES["numerical"].bases:
            check(RULES["numerical"], net, basis)
print(len(CHECKS), "checks")
"""


def blocks(heading: str) -> list[str]:
    """Return the Python that stands under a heading."""
    section = DOCUMENT.read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", section, re.DOTALL)


@pytest.fixture
def printed(tmp_path: Path) -> tuple[Path, str]:
    code, line = blocks("A rank rule")
    path = tmp_path / "numerical.py"
    path.write_text(code)
    return path, line.strip()


def test_a_rank_rule_is_one_file_and_one_line(printed: tuple[Path, str]) -> None:
    path, line = printed
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(path), line], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"\d+ checks\n", done.stdout)


FORMAT = """
from arsvd.formats import FORMATS
from arsvd.testing.formats import CHECKS
from arsvd.testing.networks import NETWORKS

assert FORMATS.names == ("dense", "low_rank", "rows")
for check in CHECKS.values():
    for net in NETWORKS:
        if net != "convolutions":
            for basis in ("weight", "activation", "loss"):
                check("rows", basis, net)
import arsvd, torch
try:
    arsvd.spectra(torch.nn.Conv2d(3, 8, 3), format="rows")
except ValueError as error:
    wanted = "layer '' cannot be kept in the format 'rows': rows are those of linear layers, not of conv2d"
    assert str(error) == wanted, error
model = torch.nn.Sequential(torch.nn.Conv2d(1, 8, 3), torch.nn.Flatten(), torch.nn.Linear(8, 4))
(name, reason), = arsvd.spectra(model, format="rows").coverage.skipped
assert (name, reason) == ("0", "rows are those of linear layers, not of conv2d")
print(len(CHECKS), "checks")
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The packages with the format of the document: one more file, and one more line."""
    root = Path(__file__).parents[2]
    for package in ("arsvd", "sweeps", "cluster", "mlflow_server"):
        shutil.copytree(root / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    code, line = blocks("A format")
    (tmp_path / "arsvd" / "formats" / "rows.py").write_text(code)
    registry = tmp_path / "arsvd" / "formats" / "__init__.py"
    text = registry.read_text()
    last = '"low_rank": "low_rank:LOW_RANK"'
    assert text.count(last) == 1
    registry.write_text(text.replace(last, f"{last}, {line.strip().rstrip(',')}"))
    return tmp_path


def run(copy: Path, *words: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(copy), "ARSVD_HOME": str(copy / "home")}
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, cwd=copy, env=environment, timeout=400
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def test_a_format_is_one_file_and_one_line(copy: Path) -> None:
    assert re.fullmatch(r"\d+ checks\n", run(copy, "-c", FORMAT))


@pytest.mark.slow
def test_a_format_goes_through_a_sweep_to_a_registered_model(copy: Path) -> None:
    small = ("search.trials=2", "training.epochs=10", "model.hidden=[8]", "compression.energy.points=8")
    formats = "compression.formats=[rows]"
    run(copy, "-m", "sweeps.cli", "sweep", "digits", *small, formats, "select.max_drop=0.3")
    code = (
        "import mlflow, torch\n"
        "mlflow.set_tracking_uri('sqlite:///home/mlflow.db')\n"
        "versions = mlflow.MlflowClient().search_model_versions('')\n"
        "own = [v for v in versions if 'rows' in v.tags.get('formats', '')]\n"
        "model = mlflow.pytorch.load_model(f'models:/{own[0].name}/{own[0].version}')\n"
        "print(len(versions) > len(own) > 0, tuple(model(torch.rand(2, 1, 8, 8)).shape))\n"
    )
    assert run(copy, "-c", code).splitlines()[-1] == "True (2, 10)"
    assert "rows:" in run(copy, "-m", "sweeps.cli", "show", "digits")
