"""The other commands refuse bad arguments as the sweep does: status 2, one message, nothing written."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import arsvd
from arsvd.data import Dataset
from sweeps.cli import main
from sweeps.config import SweepConfig
from sweeps.ledger.ledger import Ledger
from sweeps.ledger.records import MemberRecord
from sweeps.trial.weights import MemberWeights, save_member

Refused = Callable[..., str]


@pytest.mark.parametrize("name", ["digits-1", "", "../../etc", "*"])
def test_a_sweep_that_is_not_there(refused: Refused, workplace: Path, name: str) -> None:
    assert f"there is no sweep {name!r}" in refused("show", name)


def test_a_sweep_that_is_damaged(
    refused: Refused,
    workplace: Path,
    new_config: Callable[..., SweepConfig],
    new_record: Callable[..., MemberRecord],
    digits: Dataset,
) -> None:
    ledger = Ledger.create(workplace / "home", new_config(), digits, (17_226, 17_024))
    ledger.write_member(new_record(0))
    (path,) = (ledger.path / "members").iterdir()
    path.write_text("{")
    assert f"{path} is damaged" in refused("show", "digits")
    path.unlink()
    (ledger.path / "sweep.yaml").write_text("search: {trials: 0}")
    assert "sweep.yaml" in refused("show", "digits")


# name: arguments after `best`, the text that must be in the message
BEST: dict[str, tuple[list[str], str]] = {
    "nothing registered": (["digits"], "no model is registered for the data set 'digits'"),
    "nothing registered, by size": (
        ["digits", "--max-params", "100"],
        "no sweep has registered any model yet",
    ),
    "unknown data set": (["nosuch", "--max-drop", "0.1"], "no model is registered for the data set 'nosuch'"),
    "a drop above 1": (["digits", "--max-drop", "2"], "max_drop must be a share in [0, 1]"),
    "a drop below 0": (["digits", "--max-drop", "-0.1"], "max_drop must be a share in [0, 1]"),
    "a drop that is none": (["digits", "--max-drop", "nan"], "got nan"),
    "no parameters": (["digits", "--max-params", "0"], "max_params must be at least 1, got 0"),
    "two limits": (["digits", "--max-drop", "0.1", "--max-params", "9"], "give only one of"),
    "an export to nowhere": (["digits", "--export", "nowhere/m.safetensors"], "the folder of nowhere/m"),
    "a name that is none": (["di/gi'ts"], "no model is registered"),
}


@pytest.mark.parametrize(("arguments", "text"), BEST.values(), ids=BEST)
def test_best_where_no_model_qualifies(
    refused: Refused, workplace: Path, store: Path, arguments: list[str], text: str
) -> None:
    assert text in refused("best", *arguments)


@pytest.fixture
def models(workplace: Path) -> Path:
    """Files that `compress` may be given."""
    network = arsvd.MLP([8, 6, 4])
    arsvd.save(network, workplace / "model.safetensors")
    save_member(
        workplace / "member.safetensors", MemberWeights(network, {"weight": arsvd.spectra(network)}, {})
    )
    (workplace / "text.safetensors").write_text("no tensors")
    cut_file = (workplace / "model.safetensors").read_bytes()[:-9]
    (workplace / "cut.safetensors").write_bytes(cut_file)
    broken = arsvd.MLP([8, 6, 4])
    with torch.no_grad():
        broken[1].weight[0, 0] = float("nan")
    arsvd.save(broken, workplace / "nan.safetensors")
    np.save(workplace / "inputs.npy", np.random.default_rng(0).random((20, 8), np.float32))
    np.save(workplace / "narrow.npy", np.ones((20, 5), np.float32))
    np.save(workplace / "none.npy", np.ones((0, 8), np.float32))
    np.save(workplace / "words.npy", np.array(["a", "b"]))
    np.save(workplace / "objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.save(workplace / "infinite.npy", np.full((20, 8), np.inf, np.float32))
    return workplace


# name: the model, further arguments, the text that must be in the message
COMPRESS: dict[str, tuple[str, list[str], str]] = {
    "no target": ("model", [], "give one target: --energy or --max-params"),
    "two targets": ("model", ["--energy", "0.9", "--max-params", "50"], "give one target"),
    "energy 0": ("model", ["--energy", "0"], "(0, 1]"),
    "energy above 1": ("model", ["--energy", "1.5"], "(0, 1]"),
    "energy nan": ("model", ["--energy", "nan"], "nan"),
    "too few parameters": ("model", ["--max-params", "3"], "3"),
    "no parameters": ("model", ["--max-params", "-5"], "-5"),
    "a text": ("text", ["--energy", "0.9"], "is not a whole safetensors file"),
    "a truncated model": ("cut", ["--energy", "0.9"], "is not a whole safetensors file"),
    "weights that are not finite": ("nan", ["--energy", "0.9"], "linear1"),
    "a member's weights": ("member", ["--energy", "0.9"], "member.safetensors"),
    "calibration of another width": ("model", ["--energy", "0.9", "--calibration", "narrow.npy"], "5"),
    "calibration of no rows": ("model", ["--energy", "0.9", "--calibration", "none.npy"], "0"),
    "calibration of words": (
        "model",
        ["--energy", "0.9", "--calibration", "words.npy"],
        "is not one array of numbers",
    ),
    "calibration of objects": (
        "model",
        ["--energy", "0.9", "--calibration", "objects.npy"],
        "is not an .npy file of plain numbers",
    ),
    "calibration that is not finite": (
        "model",
        ["--energy", "0.9", "--calibration", "infinite.npy"],
        "holds values that are not finite",
    ),
    "calibration that is a model": (
        "model",
        ["--energy", "0.9", "--calibration", "model.safetensors"],
        "is not an .npy file of plain numbers",
    ),
    "an output in no folder": ("model", ["--energy", "0.9", "-o", "nowhere/x"], "the folder of nowhere/x"),
}


@pytest.mark.parametrize(("model", "arguments", "text"), COMPRESS.values(), ids=COMPRESS)
def test_models_that_cannot_be_compressed(
    refused: Refused, models: Path, model: str, arguments: list[str], text: str
) -> None:
    output = [] if "-o" in arguments else ["-o", "small.safetensors"]
    assert text in refused("compress", f"{model}.safetensors", *output, *arguments)


def test_refused_arguments_are_accepted_once_corrected(models: Path) -> None:
    arguments = ["compress", "model.safetensors", "-o", "small.safetensors", "--energy", "0.9"]
    done = CliRunner().invoke(main, [*arguments, "--calibration", "inputs.npy"])
    assert done.exit_code == 0, done.output
    assert (models / "small.safetensors").exists()


@pytest.mark.parametrize(
    ("name", "text"), [("nosuch", "unknown data set 'nosuch'"), ("imagefolder", "imagefolder is not fetched")]
)
def test_data_that_cannot_be_fetched(refused: Refused, workplace: Path, name: str, text: str) -> None:
    assert text in refused("data", name, "--data-dir", str(workplace))


# click's own words: how the command is used, and what was wrong
USAGE = [
    ["swep", "digits"],
    ["sweep"],
    ["sweep", "digits", "--fast"],
    ["best", "digits", "--max-params", "few"],
    ["ui", "--port", "70000"],
    ["compress", "nowhere.safetensors", "-o", "x"],
    ["compress", "."],
    ["sweep", "digits", "--data-dir", __file__],
]


@pytest.mark.parametrize("arguments", USAGE, ids=" ".join)
def test_a_command_that_is_not_used_as_it_should(misused: Callable[..., str], arguments: list[str]) -> None:
    assert re.match(r"Usage: \w+ ", misused(*arguments))
