"""`arsvd compress` and the files around it: what is shipped, what is said, what is refused."""

import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from torch import Tensor, nn

import arsvd
from sweeps.cli import main

FACTORIES = """
import os, sys
import torch
from torch import nn

def net():
    return nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 4))

class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(9, 24)
        self.inner = nn.Linear(24, 24)
        self.spare = nn.Linear(24, 24)
        self.head = nn.Linear(24, 9, bias=False)
        self.head.weight = self.words.weight

    def forward(self, ids):
        return self.head(torch.relu(self.inner(self.words(ids).mean(1))))

def leaving():
    sys.exit("usage: train.py DATA")

class Stop(BaseException):
    pass

def stopping():
    raise Stop("lines\\nof text")

def printing():
    print("epoch 1")
    return net()

def wandering():
    os.chdir("/")
    return net()
"""


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(50, 24)
        self.inner = nn.Linear(24, 32)
        self.head = nn.Linear(32, 3)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(torch.relu(self.inner(self.words(ids).mean(1))))


def export(model: nn.Module, x: Tensor, path: str) -> None:
    batch = ({0: torch.export.Dim("batch")},)
    torch.export.save(torch.export.export(model.eval(), (x,), dynamic_shapes=batch), path)


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["", *__import__("sys").path])
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    # a name of its own for each test: an imported module stays
    (tmp_path / f"made_{os.path.basename(tmp_path)}.py").write_text(FACTORIES)
    yield tmp_path
    torch.set_num_threads(threads)


@pytest.fixture
def factories(workplace: Path) -> str:
    return f"made_{workplace.name}"


def compress(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["compress", *arguments])


def succeeded(*arguments: str) -> dict[str, Any]:
    done = compress(*arguments, "--json")
    assert done.exit_code == 0, (done.stderr, done.exception)
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def refused(*arguments: str) -> str:
    before = sorted(Path().iterdir())
    done = compress(*arguments)
    assert done.exit_code == 2, (done.output, done.exception)
    assert done.stdout == ""
    assert done.stderr.startswith("arsvd: ")
    assert done.stderr.count("\n") == 1, done.stderr
    assert [p for p in sorted(Path().iterdir()) if p.name != "__pycache__"] == before
    return done.stderr


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 4))


@pytest.mark.parametrize("option", ["--calibration", "--labelled"])
@pytest.mark.parametrize("output", ["small.pt2", "small.safetensors"])
def test_nothing_of_the_user_s_data_is_shipped(output: str, option: str) -> None:
    arsvd.save(arsvd.MLP([16, 24, 4]), "model.safetensors")
    rows = np.random.default_rng(0).standard_normal((5000, 16)).astype(np.float32)
    np.save("rows.npy", rows)
    np.savez("rows.npz", inputs=rows, labels=np.arange(5000) % 4)
    data = "rows.npy" if option == "--calibration" else "rows.npz"
    said = succeeded("model.safetensors", "-o", output, "--energy", "0.9", option, data)
    content = Path(output).read_bytes()
    assert len(content) < 100_000  # the rows have 320,000 bytes
    parts = [content]
    if output == "small.pt2":
        with zipfile.ZipFile(output) as archive:
            parts += [archive.read(name) for name in archive.namelist()]
        assert len(parts) > 5
    for row in rows[::50]:
        assert not any(row.tobytes() in part for part in parts)
    assert said["bytes_before"] == Path("model.safetensors").stat().st_size
    assert said["bytes_after"] == len(content)


def test_bytes_before_and_after_are_printed() -> None:
    arsvd.save(arsvd.MLP([160, 240, 4]), "model.safetensors")
    done = compress("model.safetensors", "-o", "small.safetensors", "--energy", "0.5")
    before, after = (Path(f"{name}.safetensors").stat().st_size for name in ("model", "small"))
    assert after < before
    assert f"\n{before:,} → {after:,} bytes on disk\n" in done.stdout


def test_token_ids_reach_a_program_as_whole_numbers() -> None:
    model = Tokens()
    ids = torch.randint(0, 50, (300, 7))
    export(model, ids[:3], "model.pt2")
    labels = model(ids).argmax(1)
    for name, dtype in (("wide", np.int64), ("narrow", np.int32), ("bytes", np.uint8)):
        np.savez(f"{name}.npz", inputs=ids.numpy().astype(dtype), labels=labels.numpy())
        said = succeeded("model.pt2", "-o", "small.pt2", "--max-drop", "0.5", "--labelled", f"{name}.npz")
        assert said["dense_accuracy"] == 1.0
        assert said["notes"] == [f"{name}.npz: 300 rows of (7,), {np.dtype(dtype).name} taken as int64"]
    np.save("floats.npy", ids.float().numpy())
    text = refused("model.pt2", "-o", "s.pt2", "--energy", "0.9", "--calibration", "floats.npy")
    assert "floats.npy holds float32, and the model takes int64: save whole numbers" in text


def test_inputs_in_a_program_s_dtype_and_not_in_that_of_its_first_layer() -> None:
    class Lower(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(16, 24, dtype=torch.float64)
            self.head = nn.Linear(24, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.relu(self.layer(x.double())).float())

    export(Lower(), torch.randn(3, 16), "model.pt2")
    np.save("rows.npy", np.random.default_rng(0).standard_normal((50, 16)))
    said = succeeded("model.pt2", "-o", "small.pt2", "--energy", "0.9", "--calibration", "rows.npy")
    assert said["notes"] == ["rows.npy: 50 rows of (16,), float64, as they are, as float32"]


@pytest.mark.parametrize("output", ["small.pt2", "small.safetensors"])
def test_convolutions_are_compressed(output: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, groups=2),
        nn.ReLU(),
    )
    model = nn.Sequential(*model, nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(288, 5)).eval()
    x = torch.rand(300, 1, 12, 12)
    export(model, x[:3].clone(), "model.pt2")
    with torch.no_grad():
        np.savez("data.npz", inputs=x.numpy(), labels=model(x).argmax(1).numpy())
    before = sum(parameter.numel() for parameter in model.parameters())
    target = ("--max-params", str(before // 3), "--labelled", "data.npz")
    plan = succeeded("model.pt2", *target, "-o", output)
    layers = {layer["name"]: layer for layer in plan["layers"]}
    assert [layer["site"] for layer in layers.values()] == ["conv2d", "conv2d", "linear"]
    assert plan["params"] <= before // 3
    assert plan["dense_macs"] == 100 * 9 * 16 + 16 * 72 * 32 + 288 * 5
    dense = arsvd.read_model("model.pt2")
    small = arsvd.read_model(output) if output.endswith("pt2") else arsvd.load(output, into=dense)
    assert sum(parameter.numel() for parameter in small.parameters()) == plan["params"]
    assert plan["accuracy"] == pytest.approx(arsvd.evaluate(small, x, model(x).argmax(1)).accuracy, abs=0.01)
    skipped = succeeded("model.pt2", "--energy", "0.9", "--skip", "3", "-o", output)
    assert [layer["name"] for layer in skipped["layers"]] == ["0", "7"]


def test_bytes_that_are_not_pixels_need_a_scale() -> None:
    arsvd.save(arsvd.MLP([64, 24, 10]), "model.safetensors")
    np.save("digits.npy", np.random.default_rng(0).integers(0, 17, (50, 8, 8), dtype=np.uint8))
    arguments = ("model.safetensors", "-o", "s.safetensors", "--energy", "0.9", "--calibration", "digits.npy")
    assert "digits.npy holds bytes up to 16" in refused(*arguments)
    said = succeeded(*arguments, "--scale", "16")
    assert said["notes"] == ["digits.npy: 50 rows of (8, 8), uint8, divided by 16, as float32"]


@pytest.mark.parametrize("labels", [np.arange(50) % 4 + 1, np.arange(50) % 5 - 1])
def test_labels_that_are_not_classes(labels: np.ndarray) -> None:
    arsvd.save(arsvd.MLP([16, 24, 4]), "model.safetensors")
    np.savez("l.npz", inputs=np.zeros((50, 16), np.float32), labels=labels)
    text = refused("model.safetensors", "-o", "s.pt2", "--max-drop", "0.1", "--labelled", "l.npz")
    hint = "classes count from 0: subtract 1" if labels.min() == 1 else "leave rows without a class out"
    assert "labels must be in 0 … 3, got" in text
    assert hint in text


def test_layers_that_stay_dense_are_told_and_can_be_chosen(factories: str) -> None:
    torch.save({"state_dict": net().state_dict(), "epoch": 3}, "model.ckpt")
    arguments = ("model.ckpt", "-o", "s.safetensors", "--energy", "0.5", "--factory", f"{factories}:net")
    said = succeeded(*arguments, "--skip", "2")
    assert [layer["name"] for layer in said["layers"]] == ["0"]
    assert said["notes"][0] == "model.ckpt is a checkpoint: the weights are its entry 'state_dict'"
    done = compress(*arguments, "--skip", "2")
    assert "model.ckpt is a checkpoint" in done.stdout
    assert "left dense: 2 (" in done.stdout
    text = refused(*arguments, "--skip", "nowhere")
    assert "--skip names no layer of the model: nowhere; it has ['0', '2']" in text


def test_a_tied_model_from_a_state_dict_is_compressed_where_it_can_be(factories: str) -> None:
    room: dict[str, Any] = {}
    exec(FACTORIES, room)
    model = room["Tied"]().eval()
    torch.save(model.state_dict(), "model.bin")
    ids = torch.randint(0, 9, (60, 5))
    np.savez("l.npz", inputs=ids.numpy(), labels=model(ids).argmax(1).numpy())
    said = succeeded(
        *("model.bin", "-o", "small.safetensors", "--max-drop", "0.9", "--labelled", "l.npz"),
        *("--factory", f"{factories}:Tied", "--skip", "head", "--skip", "spare"),
    )
    assert said["notes"][0] == "l.npz: 60 rows of (5,), int64 taken as int64"
    assert [layer["name"] for layer in said["layers"]] == ["inner"]
    assert said["dense_accuracy"] == 1.0


def test_advice_names_options_of_the_command(factories: str) -> None:
    room: dict[str, Any] = {}
    exec(FACTORIES, room)
    torch.save(room["Tied"]().state_dict(), "model.bin")
    np.save("ids.npy", np.random.default_rng(0).integers(0, 9, (60, 5)))
    text = refused(
        *("model.bin", "-o", "small.safetensors", "--energy", "0.5", "--calibration", "ids.npy"),
        *("--factory", f"{factories}:Tied", "--skip", "head"),
    )
    assert "layers ['spare'] never ran on the calibration inputs; give --skip NAME for each" in text
    assert "layers=[" not in text


# name: the function, what is said
BAD: dict[str, tuple[str, str]] = {
    "a script that ends": ("leaving", "failed: SystemExit('usage: train.py DATA')"),
    "an error of no usual kind": ("stopping", r"failed: Stop('lines\nof text')"),
}


@pytest.mark.parametrize("name", BAD)
def test_factories_that_end_the_command(factories: str, name: str) -> None:
    function, text = BAD[name]
    torch.save(net().state_dict(), "model.pt")
    said = refused(
        "model.pt", "-o", "s.safetensors", "--energy", "0.5", "--factory", f"{factories}:{function}"
    )
    assert text in said


@pytest.mark.parametrize("content", ["import sys\nsys.exit(2)", "raise KeyError('no\\nkey')", "1 +"])
def test_modules_that_cannot_be_imported(workplace: Path, content: str) -> None:
    name = f"ending_{abs(hash(content))}"
    (workplace / f"{name}.py").write_text(content)
    torch.save(net().state_dict(), "model.pt")
    said = refused("model.pt", "-o", "s.safetensors", "--energy", "0.5", "--factory", f"{name}:net")
    assert f"the module of the factory '{name}:net' cannot be imported: " in said


def test_factories_that_print_or_change_the_folder(factories: str, workplace: Path) -> None:
    torch.save(net().state_dict(), "model.pt")
    for function in ("printing", "wandering"):
        said = succeeded(
            "model.pt",
            "-o",
            f"{function}.safetensors",
            "--energy",
            "0.5",
            "--factory",
            f"{factories}:{function}",
        )
        assert said["params"] > 0
        assert (workplace / f"{function}.safetensors").exists()
        assert Path.cwd() == workplace


# name: the output, the text
OUTPUTS: dict[str, tuple[str, str]] = {
    "the model itself": ("model.safetensors", "is read as well, and would be overwritten"),
    "the labelled data": ("l.safetensors", "is read as well, and would be overwritten"),
    "a link to the model": ("link.safetensors", "is read as well, and would be overwritten"),
    "ONNX": ("small.onnx", "is written as .safetensors or .pt2, not as 'small.onnx'"),
    "no ending": ("small", "is written as .safetensors or .pt2, not as 'small'"),
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_outputs_that_cannot_be(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors.torch import save_file

    output, text = OUTPUTS[name]
    arsvd.save(arsvd.MLP([16, 24, 4]), "model.safetensors")
    save_file({"inputs": torch.randn(9, 16), "labels": torch.arange(9) % 4}, "l.safetensors")
    Path("link.safetensors").symlink_to("model.safetensors")

    def work(*_: object) -> None:
        raise AssertionError("the model was read before the output was refused")

    monkeypatch.setattr(arsvd, "read_model", work)
    said = refused("model.safetensors", "-o", output, "--max-drop", "0.1", "--labelled", "l.safetensors")
    assert text in said


def test_a_full_disk_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    arsvd.save(arsvd.MLP([16, 24, 4]), "model.safetensors")

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("arsvd.files.serialization.save_file", fail)
    done = compress("model.safetensors", "-o", "small.safetensors", "--energy", "0.5")
    assert done.exit_code == 1
    assert done.stderr == "arsvd: cannot write small.safetensors: No space left on device\n"
    assert not Path("small.safetensors").exists()
