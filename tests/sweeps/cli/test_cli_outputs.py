"""Places that nothing can be written to: one line, the right status, and nothing half-written."""

import contextlib
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import arsvd
from sweeps.cli import main

Refused = Callable[..., str]
FULL = "cannot read or write: No space left on device"


@pytest.mark.parametrize("arguments", [["validate", "digits"], ["--help"]], ids=" ".join)
def test_output_that_cannot_be_written_is_told_in_a_line(workplace: Path, arguments: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "arsvd", *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, f"arsvd: {FULL}\n")


@contextlib.contextmanager
def room_for(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond a number of bytes, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def model(workplace: Path) -> Path:
    arsvd.save(arsvd.MLP([80, 100, 40]), workplace / "model.safetensors")
    np.save(workplace / "inputs.npy", np.random.default_rng(0).random((50, 80), np.float32))
    return workplace / "model.safetensors"


@pytest.mark.parametrize("name", ["small.safetensors", "small.pt2"])
def test_a_disk_without_room_for_a_model_is_told_in_a_line(workplace: Path, model: Path, name: str) -> None:
    (workplace / name).write_bytes(b"what was there")
    before = sorted(workplace.iterdir())
    arguments = ["compress", str(model), "-o", name, "--energy", "0.99", "--calibration", "inputs.npy"]
    with room_for(4096):
        said = CliRunner().invoke(main, arguments)
    assert (said.exit_code, said.stdout) == (1, ""), (said.exception, said.output)
    assert said.stderr.splitlines()[-1] == f"arsvd: cannot write {name}: File too large"
    assert sorted(workplace.iterdir()) == before
    assert (workplace / name).read_bytes() == b"what was there"


@pytest.mark.parametrize("place", ["/proc", "/sys", "/dev/full", "/dev/null/x"])
@pytest.mark.parametrize("arguments", [["sweep", "digits"], ["server", "--port", "0"]], ids=" ".join)
def test_a_home_that_cannot_be_made_is_told_in_a_line(
    monkeypatch: pytest.MonkeyPatch, workplace: Path, arguments: list[str], place: str
) -> None:
    monkeypatch.setenv("ARSVD_HOME", f"{place}/home")
    said = CliRunner().invoke(main, arguments)
    assert said.exit_code == (1 if arguments[0] == "server" else 2), (said.exception, said.output)
    assert said.stdout == ""
    assert f"{place}/home" in said.stderr
    # a sweep says first what it loads
    lines = [line for line in said.stderr.splitlines() if not line.startswith("loading ")]
    assert len(lines) == 1


@pytest.mark.parametrize("place", ["/proc", "/sys", "/dev/full", "/dev/null/x"])
@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_a_data_directory_that_cannot_be_made_is_told(
    refused: Refused, workplace: Path, name: str, place: str
) -> None:
    said = refused("data", name, "--data-dir", f"{place}/data")
    assert f"cannot fetch {name} into {place}/data: " in said


@pytest.mark.parametrize("place", ["/proc", "/sys"])
@pytest.mark.parametrize("name", ["small.safetensors", "small.pt2"])
def test_a_folder_that_takes_no_model_is_told_in_a_line(
    workplace: Path, model: Path, name: str, place: str
) -> None:
    arguments = ["compress", str(model), "-o", f"{place}/{name}", "--energy", "0.9"]
    said = CliRunner().invoke(main, [*arguments, "--calibration", "inputs.npy"])
    assert said.exit_code in (1, 2), (said.exception, said.output)
    assert said.stdout == ""
    assert f"{place}/{name}" in said.stderr
    assert "Traceback" not in said.stderr
