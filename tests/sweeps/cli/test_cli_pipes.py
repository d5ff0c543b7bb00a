"""Pipes and devices in the place of files are refused in words: reading them might never begin or end."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import arsvd
from arsvd.data import load
from sweeps.cli import main

SECONDS = 30
IDX = "data/MNIST/raw/train-images-idx3-ubyte"
CIFAR = "data/cifar-10-batches-bin/data_batch_1.bin"
COMPRESS = ["--energy", "0.9", "-o", "small.safetensors"]
# name: arguments, the file that is none
COMMANDS: dict[str, tuple[list[str], str]] = {
    "sweep file": (["sweep", "own.yaml"], "own.yaml"),
    "sweep file to submit": (["submit", "own.yaml"], "own.yaml"),
    "sweep file to check": (["validate", "own.yaml"], "own.yaml"),
    "IDX": (["sweep", "mnist", "--data-dir", "data"], IDX),
    "CIFAR": (["sweep", "cifar10", "--data-dir", "data"], CIFAR),
    "program": (["compress", "model.pt2", *COMPRESS], "model.pt2"),
    "weights": (["compress", "own.safetensors", *COMPRESS], "own.safetensors"),
    "state dict": (["compress", "own.pt", *COMPRESS, "--factory", "torch.nn:Identity"], "own.pt"),
    "calibration": (["compress", "good.safetensors", *COMPRESS, "--calibration", "x.npy"], "x.npy"),
    "labelled": (["compress", "good.safetensors", *COMPRESS, "--labelled", "x.npz"], "x.npz"),
    "certificate": (["server", "--tls-certificate", "own.pem", "--tls-key", "own.key"], "own.pem"),
}
KINDS: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.fixture(autouse=True)
def _in_time() -> Iterator[None]:
    """Fail, where a command waits for a pipe."""

    def late(number: int, frame: FrameType | None) -> None:
        pytest.fail(f"nothing was said within {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize(("arguments", "name"), COMMANDS.values(), ids=COMMANDS)
def test_what_is_no_file_is_refused(
    workplace: Path, arguments: list[str], name: str, make: Callable[[Path], object]
) -> None:
    arsvd.save(arsvd.MLP([8, 6, 4]), workplace / "good.safetensors")
    (workplace / name).parent.mkdir(parents=True, exist_ok=True)
    make(workplace / name)
    said = CliRunner().invoke(main, arguments)
    assert said.exit_code == 2, (said.exception, said.output)
    assert Path(name).name in said.stderr
    assert "Traceback" not in said.stderr
    assert not (workplace / "small.safetensors").exists()


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_pipes_and_devices_are_not_read_as_images(workplace: Path, make: Callable[[Path], object]) -> None:
    for label, name in enumerate(("cats", "dogs")):
        (workplace / name).mkdir()
        for number in range(10):
            noise = np.random.default_rng(10 * label + number).integers(0, 256, (8, 8), np.uint8)
            Image.fromarray(noise).save(workplace / name / f"{number}.png")
    make(workplace / "cats" / "pipe.png")
    data = load("imagefolder", path=workplace, validation=4)
    assert len(data.train) + len(data.validation) + len(data.test) == 20
