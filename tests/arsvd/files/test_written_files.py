"""What files of this library hold: weights, and nothing of the data, the machine or a larger tensor."""

import importlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import arsvd
from arsvd.files.exported import read_exported, write_exported
from arsvd.files.serialization import write_tensors
from arsvd.training import MemberState

OVERHEAD = 32_000  # bytes that a program of a few layers takes beside its weights
SAFETENSORS_OVERHEAD = 2_000


class Views(nn.Module):
    """Its weights, buffers and constants are views of one large tensor."""

    def __init__(self, large: Tensor) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(40, 8), nn.Linear(8, 4)
        self.first.weight = nn.Parameter(large[:8])
        self.first.weight.requires_grad_(False)
        self.register_buffer("mean", large[8])
        self.constant = large[9:10]

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = x - self.mean + self.constant
        hidden: Tensor = self.last(torch.relu(self.first(x)))
        return hidden


@pytest.fixture
def large() -> Tensor:
    return torch.randn(1000, 40)


def contents(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return b"\n".join(archive.read(name) for name in archive.namelist())


def rows_within(content: bytes, rows: Tensor) -> int:
    """Count the rows (rows, …) of which 16 bytes are found."""
    return sum(row.contiguous().numpy().tobytes()[:16] in content for row in rows)


def size(model: nn.Module) -> int:
    return sum(t.numel() * t.element_size() for t in model.state_dict().values())


class TestPrograms:
    def test_no_data_and_no_more_than_the_weights(self, large: Tensor, tmp_path: Path) -> None:
        model, path = Views(large).eval(), tmp_path / "m.pt2"
        write_exported(model, path, large[100:400])
        content = contents(path)
        assert rows_within(content, large[:10]) == 10
        assert rows_within(content, large[10:]) == 0
        assert path.stat().st_size < size(model) + 40 * 4 + OVERHEAD
        torch.testing.assert_close(read_exported(path)(large), model(large))
        loaded = torch.export.load(path)
        torch.testing.assert_close(loaded.module()(large), model(large))
        assert not loaded.state_dict["first.weight"].requires_grad

    def test_example_inputs_are_zeros_without_storage(self, large: Tensor, tmp_path: Path) -> None:
        write_exported(Views(large).eval(), tmp_path / "m.pt2", large[:300])
        program = torch.export.load(tmp_path / "m.pt2")
        ((example,), _) = program.example_inputs or ((None,), None)
        assert example.shape == (300, 40)
        assert not example.any()
        assert example.untyped_storage().nbytes() == 4
        assert program.module()(example).shape == (300, 4)

    def test_a_model_compressed_from_a_file_that_ships_its_data(self, large: Tensor, tmp_path: Path) -> None:
        model = arsvd.MLP([40, 32, 4]).eval()
        batch = ({0: torch.export.Dim("batch")},)
        torch.export.save(torch.export.export(model, (large[:3],), dynamic_shapes=batch), tmp_path / "m.pt2")
        read = arsvd.read_model(tmp_path / "m.pt2")
        spectra = arsvd.spectra(read, large)
        small = arsvd.compress(read, spectra, arsvd.plan(spectra, arsvd.Energy(0.5)))
        for example in (None, large[:3], large):
            arsvd.write_model(small, tmp_path / "small.pt2", example)
            assert rows_within(contents(tmp_path / "small.pt2"), large) == 0
            assert (tmp_path / "small.pt2").stat().st_size < size(small) + OVERHEAD

    def test_tied_weights_are_stored_once(self, large: Tensor, tmp_path: Path) -> None:
        model = nn.Sequential(nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 40)).eval()
        model[0].weight = model[2].weight = nn.Parameter(large[:40])
        write_exported(model, tmp_path / "m.pt2", large[:3])
        with zipfile.ZipFile(tmp_path / "m.pt2") as archive:
            sizes = [info.file_size for info in archive.infolist() if "/weight_" in info.filename]
        assert sorted(sizes) == [160, 160, 6400]

    def test_no_trace_of_the_machine(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nested graphs of regions have notes as well."""
        folder = tmp_path / "secret"
        folder.mkdir()
        (folder / "hidden_net.py").write_text(
            "import torch\n"
            "class HiddenNet(torch.nn.Module):\n"
            "    def __init__(self):\n"
            "        super().__init__()\n"
            "        self.layer = torch.nn.Linear(6, 3)\n"
            "    def forward(self, x):\n"
            "        with torch.no_grad():\n"
            "            x = torch.cond(x.sum() > 0, lambda x: x + 1, lambda x: x * 2, (x,))\n"
            "        return self.layer(x)\n"
        )
        monkeypatch.syspath_prepend(folder)
        model = importlib.import_module("hidden_net").HiddenNet().eval()
        write_exported(model, tmp_path / "m.pt2", torch.randn(3, 6))
        content = contents(tmp_path / "m.pt2")
        for trace in (
            b"secret",
            b"hidden_net",
            b"HiddenNet",
            b".py",
            b"site-packages",
            str(tmp_path).encode(),
        ):
            assert trace not in content
        assert b"layer" in content

    def test_metadata(self, tmp_path: Path) -> None:
        write_exported(arsvd.MLP([6, 3]).eval(), tmp_path / "m.pt2", torch.randn(3, 6), {"a": 1})
        extra = {"arsvd.json": ""}
        torch.export.load(tmp_path / "m.pt2", extra_files=extra)
        assert json.loads(extra["arsvd.json"]) == {"a": 1}

    def test_another_ending(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"is written as \.pt2, not as 'm\.onnx'"):
            write_exported(arsvd.MLP([6, 3]).eval(), tmp_path / "m.onnx", torch.randn(3, 6))
        assert list(tmp_path.iterdir()) == []


def whole(model: nn.Module) -> nn.Module:
    compiled: nn.Module = torch.compile(model)
    return compiled


def in_place(model: nn.Module) -> nn.Module:
    model.compile()
    return model


def a_layer(model: nn.Module) -> nn.Module:
    model.get_submodule("linear1").compile()
    return model


@pytest.mark.parametrize("compiled", [whole, in_place, a_layer])
def test_a_compiled_model_is_exported_as_it_was(
    compiled: Callable[[nn.Module], nn.Module], tmp_path: Path
) -> None:
    model, x = arsvd.MLP([6, 5, 3]).eval(), torch.randn(4, 6)
    wanted = model(x)
    write_exported(compiled(model), tmp_path / "m.pt2", x)
    read = read_exported(tmp_path / "m.pt2")
    assert list(arsvd.find_sites(read)) == ["linear1", "linear2"]
    torch.testing.assert_close(read(x), wanted)


class TestSafetensors:
    def test_models_and_tensors(self, large: Tensor, tmp_path: Path) -> None:
        model = Views(large).eval()
        arsvd.save(model, tmp_path / "m.safetensors")
        write_tensors(tmp_path / "t.safetensors", {"a": large[3:4], "b": large[20:40].T.contiguous()}, {})
        for name, values, rows in (("m", size(model), 9), ("t", 21 * 160, 1)):
            content = (tmp_path / f"{name}.safetensors").read_bytes()
            assert len(content) < values + SAFETENSORS_OVERHEAD
            assert rows_within(content, large) == rows

    def test_states_of_members(self, large: Tensor) -> None:
        state = MemberState({}, 1, {}, None, 0.0, {"a": large[3], "b": large[:, 5], "c": large[7:9, :20]})
        content = state.to_bytes()
        assert len(content) < (40 + 1000 + 40) * 4 + SAFETENSORS_OVERHEAD
        assert rows_within(content, large) == 3
