"""What docs/own-model.md prints is run, top to bottom: its Python in one process, its commands after it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import arsvd

DOCUMENT = Path(__file__).parents[3] / "docs" / "own-model.md"


def blocks(language: str) -> list[str]:
    """Return the document's code of a language; the shell's has none."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE)
    return [code for of, code in found if of == language]


@pytest.mark.slow
def test_what_the_document_prints_does_what_it_says(tmp_path: Path) -> None:
    script = "\n".join(["import torch", "torch.manual_seed(0)", *blocks("python")])
    told = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    assert arsvd.load(tmp_path / "small.safetensors")(torch.rand(3, 784)).shape == (3, 10)

    commands = [
        line for block in blocks("") for line in block.splitlines() if line.startswith("arsvd compress")
    ]
    assert len(commands) >= 2
    environment = os.environ | {
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    }
    for command in commands:
        target = tmp_path / "small.pt2"
        target.unlink(missing_ok=True)
        done = subprocess.run(
            command.split(), cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert torch.export.load(target).module()(torch.rand(5, 1, 8, 8)).shape == (5, 10)
