"""`arsvd compress` on models that were trained elsewhere: every reader, every target, every bad input."""

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import save_file
from torch import Tensor, nn

import arsvd
from arsvd.evaluation.confidence import answers, sequence_bounds
from sweeps.cli import main
from sweeps.foreign.within_drop import halves

FACTORY = """
import torch
from torch import nn

class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(16, 24)
        self.norm = nn.LayerNorm(24)
        self.block = nn.Linear(24, 24)
        self.head = nn.Linear(24, 4)

    def forward(self, x):
        x = self.stem(x)
        return self.head(x + self.block(torch.relu(self.norm(x))))

def small():
    return nn.Linear(3, 2)

def number():
    return 3

def failing():
    raise RuntimeError("no data here")
"""


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 4, 4)),
        nn.Conv2d(1, 4, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64, 24),
        nn.ReLU(),
        nn.Linear(24, 4),
    )


def export(model: nn.Module, x: Tensor, path: Path, batch: dict[int, object] | None) -> None:
    shapes = None if batch is None else (batch,)
    torch.export.save(torch.export.export(model, (x,), dynamic_shapes=shapes), path)


@pytest.fixture(scope="module")
def residual() -> nn.Module:
    torch.manual_seed(0)
    room: dict[str, Callable[[], nn.Module]] = {}
    exec(FACTORY, room)
    return room["Residual"]().eval()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, residual: nn.Module) -> Path:
    """Models with falling spectra that are exact on their own labels, and files that cannot be used."""
    folder = tmp_path_factory.mktemp("files")
    torch.manual_seed(0)
    x, batch = torch.randn(400, 16), {0: torch.export.Dim("batch")}
    (folder / "foreign_factory.py").write_text(FACTORY)
    conv = convolutional().eval()
    export(residual, x[:3], folder / "residual.pt2", batch)
    export(conv, x[:3], folder / "conv.pt2", batch)
    export(conv, x[:3], folder / "fixed_batch.pt2", None)
    export(nn.ReLU(), x[:3], folder / "no_layer.pt2", batch)
    save_file(residual.state_dict(), folder / "state.safetensors")
    torch.save(residual.state_dict(), folder / "state.pt")
    torch.save(residual.state_dict(), folder / "state.pth")
    torch.save(nn.Linear(3, 2), folder / "module.pt")
    arsvd.save(arsvd.MLP([16, 24, 4]), folder / "own.safetensors")
    (folder / "text.pt2").write_text("no archive")
    (folder / "text.pt").write_text("no archive")
    inputs = x.numpy()
    with torch.no_grad():
        labels = residual(x).argmax(1).numpy()
    np.save(folder / "inputs.npy", inputs)
    np.save(folder / "one_row.npy", inputs[:1])
    np.save(folder / "narrow.npy", inputs[:, :9])
    np.save(folder / "flat.npy", inputs[0])
    np.savez(folder / "labelled.npz", inputs=inputs, labels=labels)
    save_file({"inputs": x, "labels": torch.from_numpy(labels)}, folder / "labelled.safetensors")
    np.savez(folder / "high.npz", inputs=inputs, labels=labels + 1)
    np.savez(folder / "negative.npz", inputs=inputs, labels=labels - 1)
    np.savez(folder / "fractions.npz", inputs=inputs, labels=labels + 0.5)
    np.savez(folder / "fewer.npz", inputs=inputs, labels=labels[:-1])
    np.savez(folder / "lacking.npz", inputs=inputs)
    np.savez(folder / "one.npz", inputs=inputs[:1], labels=labels[:1])
    np.savez(folder / "narrow.npz", inputs=inputs[:, :9], labels=labels)
    np.savez(folder / "objects.npz", inputs=inputs, labels=np.array([{}], dtype=object))
    return folder


@pytest.fixture
def workplace(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    assert len(list(files.iterdir())) >= 25
    for file in files.iterdir():
        (tmp_path / file.name).symlink_to(file)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["", *sys.path])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tmp_path
    torch.set_num_threads(threads)


def compress(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["compress", *arguments])


def succeeded(*arguments: str) -> dict[str, Any]:
    done = compress(*arguments, "--json")
    assert done.exit_code == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


RESIDUAL = "foreign_factory:Residual"
READERS: dict[str, tuple[str, list[str]]] = {
    "pt2": ("residual.pt2", []),
    "state dict in safetensors": ("state.safetensors", ["--factory", RESIDUAL]),
    "state dict in pt": ("state.pt", ["--factory", RESIDUAL]),
    "state dict in pth": ("state.pth", ["--factory", RESIDUAL]),
}


@pytest.mark.parametrize("output", ["small.pt2", "small.safetensors"])
@pytest.mark.parametrize(("model", "arguments"), READERS.values(), ids=READERS)
def test_every_reader_and_writer(
    workplace: Path, residual: nn.Module, model: str, arguments: list[str], output: str
) -> None:
    said = succeeded(model, "-o", output, "--energy", "0.9999999", "--calibration", "inputs.npy", *arguments)
    x = torch.from_numpy(np.load("inputs.npy"))
    if output.endswith(".pt2"):
        small = torch.export.load(output).module()
    else:
        small = arsvd.load(output, into=type(residual)())
    for key in ("bytes_before", "bytes_after", "notes"):  # what the command says beside the plan
        del said[key]
    plan = arsvd.Plan.from_dict(said)
    assert sum(p.numel() for p in small.parameters()) == plan.params
    with torch.no_grad():
        torch.testing.assert_close(small(x), residual(x), rtol=1e-2, atol=1e-2)


TARGETS: dict[str, list[str]] = {
    "energy": ["--energy", "0.8"],
    "parameters": ["--max-params", "700"],
    "multiplications": ["--max-macs", "700"],
    "drop": ["--max-drop", "0.3", "--labelled", "labelled.npz"],
    "drop, safetensors": ["--max-drop", "0.3", "--labelled", "labelled.safetensors"],
    "drop and calibration": [
        "--max-drop",
        "0.3",
        "--labelled",
        "labelled.npz",
        "--calibration",
        "inputs.npy",
    ],
    "parameters and labels": ["--max-params", "700", "--labelled", "labelled.npz"],
    "calibrated": ["--max-params", "700", "--calibration", "inputs.npy"],
    "loss basis": ["--energy", "0.8", "--calibration", "inputs.npy", "--basis", "loss"],
    "weight basis with labels": ["--max-drop", "0.3", "--labelled", "labelled.npz", "--basis", "weight"],
    "multiples of 4": ["--max-drop", "0.3", "--labelled", "labelled.npz", "--multiple", "4"],
}


@pytest.mark.parametrize("arguments", TARGETS.values(), ids=TARGETS)
def test_every_target(workplace: Path, residual: nn.Module, arguments: list[str]) -> None:
    said = succeeded("residual.pt2", "-o", "small.pt2", *arguments)
    options = dict(zip(arguments[::2], arguments[1::2], strict=True))
    assert said["params"] < said["dense_params"]
    assert said["params"] <= int(options.get("--max-params", 10**9))
    assert said["macs"] <= int(options.get("--max-macs", 10**9))
    inputs = "--calibration" in options or "--labelled" in options
    assert said["basis"] == options.get("--basis", "activation" if inputs else "weight")
    ranks = [layer["rank"] for layer in said["layers"]]
    assert all(rank is None or rank % int(options.get("--multiple", 1)) == 0 for rank in ranks)
    if "--energy" in options:
        assert all(layer["kept_energy"] >= 0.8 for layer in said["layers"])
    if "--labelled" not in options:
        assert "accuracy" not in said
        return
    with np.load("labelled.npz") as file:
        x, labels = torch.from_numpy(file["inputs"]), torch.from_numpy(file["labels"])
    small = torch.export.load("small.pt2").module()
    assert said["dense_accuracy"] == 1.0
    assert said["accuracy"] == float((small(x).argmax(1) == labels).double().mean())
    if "--max-drop" in options:
        assert said["accuracy"] >= 0.7
        told = said["confirmation"]
        assert (told["rows"], told["confidence"]) == (len(labels) // 2, 0.95)
        assert told["dense_accuracy"] - told["accuracy"] < told["bound"] <= 0.3


def test_a_drop_is_confirmed_on_rows_that_chose_nothing(workplace: Path) -> None:
    """The model taken is the last before the first that fails, by brute force over all of the front."""
    with np.load("labelled.npz") as file:
        data = torch.from_numpy(file["inputs"]), torch.from_numpy(file["labels"])
    model = arsvd.read_model("residual.pt2")
    choosing, (inputs, labels) = halves(data)
    spectra = arsvd.spectra(model, choosing[0])
    points = [point for point in arsvd.front(model, spectra, choosing) if point.family != "dense"]
    answered = [
        answers(arsvd.compress(model, spectra, arsvd.plan(spectra, arsvd.Ranks(p.ranks))), inputs, labels)
        for p in points
    ]
    sizes = []
    for drop, confidence in ((0.2, 0.6), (0.3, 0.95), (0.3, 0.6), (0.5, 0.95)):
        bounds = sequence_bounds(answers(model, inputs, labels), answered[::-1], confidence)
        taken = [p.params for p, bound in zip(points[::-1], bounds, strict=True) if bound <= drop][-1]
        said = succeeded(
            *("residual.pt2", "-o", "s.pt2", "--labelled", "labelled.npz"),
            *("--max-drop", str(drop), "--confidence", str(confidence)),
        )
        assert said["params"] == taken
        sizes.append(taken)
    assert len(set(sizes)) > 2
    done = compress("residual.pt2", "-o", "s.pt2", "--labelled", "labelled.npz", "--max-drop", "0.5")
    assert re.fullmatch(
        r"of it    100\.00% -> \d\d\.\d\d% on 200 rows that chose nothing; "
        r"it loses at most \d+\.\d\d points at 95% confidence",
        done.stdout.splitlines()[-1],
    )


def test_a_drop_that_cannot_be_shown_writes_nothing(workplace: Path) -> None:
    for drop, confidence, says in (
        ("0", "0.95", "200 rows, half of those given, can show no loss below 1.79 points"),
        ("0.02", "0.99", "200 rows, half of those given, can show no loss below"),
        ("0.03", "0.95", "the largest may lose"),
    ):
        done = compress(
            *("residual.pt2", "-o", "s.pt2", "--labelled", "labelled.npz"),
            *("--max-drop", drop, "--confidence", confidence),
        )
        assert done.exit_code == 2
        assert says in done.stderr
        assert not Path("s.pt2").exists()


def test_a_convnet_and_what_is_printed(workplace: Path) -> None:
    done = compress("conv.pt2", "-o", "small.pt2", "--max-params", "500", "--calibration", "inputs.npy")
    assert (done.exit_code, done.stderr) == (0, "")
    assert 'load it with torch.export.load("small.pt2").module()' in done.stdout
    assert arsvd.read_model("small.pt2")(torch.randn(5, 16)).shape == (5, 4)
    done = compress("conv.pt2", "-o", "small.safetensors", "--energy", "0.5")
    assert 'arsvd.load("small.safetensors", into=<the dense model>)' in done.stdout
    done = compress(
        "own.safetensors", "-o", "small.safetensors", "--energy", "0.5", "--labelled", "labelled.npz"
    )
    assert 'arsvd.load("small.safetensors")' in done.stdout
    assert "on labelled.npz" in done.stdout


LABELLED = ["--max-drop", "0.1", "--labelled"]
# name: the model, the arguments, the text
BAD: dict[str, tuple[str, list[str], str]] = {
    "no target": (
        "residual.pt2",
        [],
        "give one target: --energy or --max-params or --max-macs or --max-drop",
    ),
    "two targets": ("residual.pt2", ["--energy", "0.9", "--max-macs", "9"], "give one target"),
    "drop without labels": ("residual.pt2", ["--max-drop", "0.1"], "--max-drop needs --labelled"),
    "drop of 1": ("residual.pt2", ["--max-drop", "1", "--labelled", "labelled.npz"], "in [0, 1)"),
    "negative drop": ("residual.pt2", ["--max-drop", "-0.1", "--labelled", "labelled.npz"], "got -0.1"),
    "confidence of 1": (
        "residual.pt2",
        ["--max-drop", "0.1", "--labelled", "labelled.npz", "--confidence", "1"],
        "--confidence is in [0.5, 1), such as 0.95, got 1.0",
    ),
    "drop of nan": ("residual.pt2", ["--max-drop", "nan", "--labelled", "labelled.npz"], "got nan"),
    "too few parameters": ("residual.pt2", ["--max-params", "9"], "the smallest that is reachable has 216"),
    "too few multiplications": (
        "residual.pt2",
        ["--max-macs", "9"],
        "the smallest that is reachable has 116",
    ),
    "too few at this multiple": (
        "residual.pt2",
        ["--max-params", "300", "--multiple", "8"],
        "the smallest that is reachable has",
    ),
    "multiple of 0": ("residual.pt2", ["--energy", "0.9", "--multiple", "0"], "from 1 on, got 0"),
    "multiple above every layer": (
        "residual.pt2",
        ["--energy", "0.9", "--multiple", "25"],
        "the largest is 'block' with a full rank of 24",
    ),
    "one row": ("residual.pt2", ["--energy", "0.9", "--calibration", "one_row.npy"], "at least 2"),
    "another width": ("residual.pt2", ["--energy", "0.9", "--calibration", "narrow.npy"], "got (400, 9)"),
    "another width, conv": ("conv.pt2", ["--energy", "0.9", "--calibration", "narrow.npy"], "(any, 16)"),
    "no rows": ("own.safetensors", ["--energy", "0.9", "--calibration", "flat.npy"], "(16,)"),
    "weight basis with inputs": (
        "residual.pt2",
        ["--energy", "0.9", "--basis", "weight", "--calibration", "inputs.npy"],
        "takes no calibration inputs",
    ),
    "loss basis without inputs": (
        "residual.pt2",
        ["--energy", "0.9", "--basis", "loss"],
        "needs calibration",
    ),
    "labels too high": ("residual.pt2", [*LABELLED, "high.npz"], "labels must be in 0 … 3"),
    "labels below 0": ("residual.pt2", [*LABELLED, "negative.npz"], "labels must be in 0 … 3"),
    "labels that are fractions": ("residual.pt2", [*LABELLED, "fractions.npz"], "whole numbers"),
    "fewer labels than rows": ("residual.pt2", [*LABELLED, "fewer.npz"], "399 labels"),
    "no labels": ("residual.pt2", [*LABELLED, "lacking.npz"], "it lacks labels"),
    "one labelled row": ("residual.pt2", [*LABELLED, "one.npz"], "at least 2 rows"),
    "labelled rows of another width": ("residual.pt2", [*LABELLED, "narrow.npz"], "(any, 16)"),
    "labelled rows of another width, own": ("own.safetensors", [*LABELLED, "narrow.npz"], "(400, 9)"),
    "labels that need pickle": ("residual.pt2", [*LABELLED, "objects.npz"], "of plain numbers"),
    "labels in an npy file": ("residual.pt2", [*LABELLED, "inputs.npy"], "of plain numbers"),
    "a pickled module": ("module.pt", ["--energy", "0.9", "--factory", RESIDUAL], "needs pickle"),
    "no factory": ("state.pt", ["--energy", "0.9"], "a factory that makes the model is needed"),
    "another factory": (
        "state.safetensors",
        ["--energy", "0.9", "--factory", "foreign_factory:small"],
        "the file lacks weight, bias; the model has no",
    ),
    "a factory of no module": (
        "state.pt",
        ["--energy", "0.9", "--factory", "foreign_factory:number"],
        "it made a int",
    ),
    "a factory that fails": (
        "state.pt",
        ["--energy", "0.9", "--factory", "foreign_factory:failing"],
        "no data here",
    ),
    "no such function": (
        "state.pt",
        ["--energy", "0.9", "--factory", "foreign_factory:x"],
        "no function 'x'",
    ),
    "no such module": ("state.pt", ["--energy", "0.9", "--factory", "nowhere_at_all:x"], "nowhere_at_all"),
    "no colon": ("state.pt", ["--energy", "0.9", "--factory", "foreign_factory"], "module:function"),
    "a factory for a program": (
        "residual.pt2",
        ["--energy", "0.9", "--factory", RESIDUAL],
        "leave the factory out",
    ),
    "a fixed batch": ("fixed_batch.pt2", ["--energy", "0.9"], "for batches of exactly 3"),
    "no linear layer": ("no_layer.pt2", ["--energy", "0.9"], "without any linear layer"),
    "no archive": ("text.pt2", ["--energy", "0.9"], "is not a whole .pt2 file"),
    "no file of torch": ("text.pt", ["--energy", "0.9", "--factory", RESIDUAL], "text.pt"),
    "an export without inputs": (
        "own.safetensors",
        ["--energy", "0.5"],
        "example inputs of the model are needed",
    ),
    "another ending": ("residual.pt2", ["--energy", "0.9", "-o", "small.pt"], "not as 'small.pt'"),
    "no folder": ("residual.pt2", ["--energy", "0.9", "-o", "nowhere/small.pt2"], "the folder of"),
}


@pytest.mark.parametrize(("model", "arguments", "text"), BAD.values(), ids=BAD)
def test_bad_input_leaves_one_message_and_no_file(
    workplace: Path, model: str, arguments: list[str], text: str
) -> None:
    before = sorted(workplace.iterdir())
    output = [] if "-o" in arguments else ["-o", "small.pt2"]
    done = compress(model, *output, *arguments)
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    assert done.stderr.startswith("arsvd: ")
    assert text in done.stderr
    assert "Traceback" not in done.stderr
    assert [p for p in sorted(workplace.iterdir()) if p.name != "__pycache__"] == before
