"""What docs/extending.md prints is run: the rank rule in a process where its file and its line are there."""

import re
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
