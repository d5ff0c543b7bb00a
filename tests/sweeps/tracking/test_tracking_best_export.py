"""`arsvd best --export`: the ending says what is written, and what cannot be written is refused first."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from mlflow import MlflowClient
from torch import nn

import arsvd
from arsvd.files.serialization import read_metadata
from sweeps.cli import main
from sweeps.ledger.records import Front
from sweeps.tracking import ModelData, SweepWriter, log_front

LOADERS: dict[str, Callable[[Path], nn.Module]] = {
    "m.safetensors": arsvd.load,
    "m.SAFETENSORS": arsvd.load,
    "m.pt2": lambda path: torch.export.load(path).module(),
    "m.PT2": lambda path: torch.export.load(path).module(),
}


def test_the_ending_chooses_the_form(
    client: MlflowClient, front: Front, models: dict[str, nn.Module], data: ModelData, tmp_path: Path
) -> None:
    run_id = SweepWriter(client).start(
        sweep="digits-1", dataset="digits", params={}, reference_params=1_274, data_hash=data.hash
    )
    entry = front.points[0]
    log_front(client, run_id, replace(front, points=front.points[:1]), lambda e: models[e.key], data)
    images = torch.rand(7, 1, 8, 8)
    for name, load in LOADERS.items():
        path = tmp_path / name
        done = CliRunner().invoke(main, ["best", "digits", "--max-params", "9999999", "--export", str(path)])
        assert done.exit_code == 0, done.output
        loader = "torch.export.load" if name.lower().endswith(".pt2") else "arsvd.load"
        assert f"saved    {path}; load it with {loader}(" in done.stdout
        with torch.no_grad():
            torch.testing.assert_close(load(path)(images), models[entry.key](images), rtol=1e-5, atol=1e-5)
    assert read_metadata(tmp_path / "m.SAFETENSORS")["params"] == entry.point.params


@pytest.mark.parametrize("name", ["best.onnx", "best.pt", "best", "best.safetensors.gz", ".pt2"])
def test_unwritable_endings_are_refused_before_the_store_is_created(tmp_path: Path, name: str) -> None:
    done = CliRunner().invoke(main, ["best", "digits", "--export", str(tmp_path / name)])
    assert done.exit_code == 2
    assert done.stderr == f"arsvd: a model is written as .safetensors or .pt2, not as {name!r}\n"
    assert list(tmp_path.iterdir()) == []
