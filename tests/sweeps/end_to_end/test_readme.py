"""README.md is true: it is short, and what it prints to be typed runs."""

import json
import os
import re
import shlex
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import nn

README = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
SNIPPETS = [text for language, text in BLOCKS if language == "python"]
COMMANDS = [
    line.split("#")[0].strip()
    for language, text in BLOCKS
    for line in text.splitlines()
    if not language and line.startswith("arsvd ")
]
# the sweeps of the page take minutes; these take seconds, on what stands for the data
SHORT = (
    *("search.trials=2", "training.epochs=1", "compression.finetune_epochs=0", "model.reference=[16]"),
    *("model.hidden=[8]", "dataset.validation=200", "dataset.confirmation=200", "select.max_drop=0.3"),
)


def test_it_is_short_and_every_kind_of_use_has_something_to_type() -> None:
    assert len(README.splitlines()) <= 150
    assert {shlex.split(command)[1] for command in COMMANDS} == {"data", "sweep", "validate", "compress"}
    assert len(SNIPPETS) == 3


def test_links_lead_to_files() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    assert len(links) >= 9
    missing = [link for link in links if not (Path(__file__).parents[3] / link).exists()]
    assert missing == []


def test_the_model_that_it_compresses_becomes_smaller(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SNIPPETS[0]], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1].removesuffix("x")) > 1.5
    assert (tmp_path / "small.safetensors").exists()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with what the page's commands name: data in MNIST's form, images, a model, a sweep file."""
    digits = load_digits()
    pixels = np.kron(digits.images, np.ones((3, 3))).clip(0, 15).astype(np.uint8) * 17
    pixels = np.pad(pixels, ((0, 0), (2, 2), (2, 2)))
    raw = tmp_path / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for prefix, part in (("train", slice(0, 1400)), ("t10k", slice(1400, None))):
        images, labels = pixels[part], digits.target[part].astype(np.uint8)
        for name, array in ((f"{prefix}-images-idx3-ubyte", images), (f"{prefix}-labels-idx1-ubyte", labels)):
            header = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
            (raw / name).write_bytes(header + array.tobytes())
    for label in range(2):
        folder = tmp_path / "path" / "to" / "images" / str(label)
        folder.mkdir(parents=True)
        for number, image in enumerate(pixels[digits.target == label]):
            Image.fromarray(image).save(folder / f"{number}.png")
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10)).eval()
    inputs = torch.from_numpy(pixels[:200, None]).float() / 255
    batch = ({0: torch.export.Dim("batch")},)
    torch.export.save(
        torch.export.export(net, (inputs[:3].clone(),), dynamic_shapes=batch), tmp_path / "model.pt2"
    )
    np.save(tmp_path / "inputs.npy", inputs.numpy())
    return tmp_path


@pytest.mark.slow
def test_every_command_and_snippet_runs(place: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    environment |= {"ARSVD_DATA": str(place / "data"), "OMP_NUM_THREADS": "1"}
    environment.pop("ARSVD_HOME", None)

    def run(command: list[str]) -> str:
        done = subprocess.run(
            command, cwd=place, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    arsvd: Callable[..., str] = lambda *words: run([sys.executable, "-m", "sweeps.cli", *words])  # noqa: E731
    (place / "my-sweep.yaml").write_text(arsvd("validate", "mnist"))
    for command in COMMANDS:
        words = shlex.split(command)[1:]
        words = [*words, *SHORT] if words[0] == "sweep" else words
        if "dataset.path=path/to/images" in words:
            words = [word.replace("=200", "=60") for word in words]
        if words[0] == "data":  # it is there, and whole
            words = [*words, "--data-dir", str(place / "data")]
        arsvd(*words)
    assert json.loads(arsvd("best", "images", "--max-drop", "0.5", "--json"))["name"] == "arsvd-images"
    for snippet in SNIPPETS[1:]:
        run([sys.executable, "-c", snippet.replace("max_drop=0.005", "max_drop=0.5")])
    assert not (place / "mlflow.db").exists()
