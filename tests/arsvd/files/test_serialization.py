"""Saving and loading: the same logits, whole files only, and no pickle."""

import copy
import io
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import arsvd
from arsvd import LowRankLinear, Ranks
from arsvd.files import serialization
from arsvd.files.serialization import read_metadata

BATCHES = (1, 7, 1000)
CUDA = pytest.param(
    "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
)


def shrunk(model: nn.Module, *ranks: int | None, calibration: Tensor | None = None) -> nn.Module:
    spectra = arsvd.spectra(model, calibration)
    small = arsvd.compress(model, spectra, arsvd.plan(spectra, Ranks(ranks)))
    assert any(isinstance(m, LowRankLinear) for m in small.modules())
    return small.eval()


def every_part() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(1, -1),
        nn.Linear(12, 10, bias=False),
        nn.GELU("tanh"),
        LowRankLinear(10, 3, 9, bias=False),
        nn.GELU(),
        nn.Identity(),
        nn.Dropout(0.4),
        nn.Linear(9, 8),
        nn.Tanh(),
        nn.Sigmoid(),
        nn.ReLU(),
        LowRankLinear(8, 2, 4),
    )


MODELS: dict[str, Callable[[], nn.Module]] = {
    "mlp": lambda: arsvd.MLP([12, 14, 4], dropout=0.3),
    "all layers low-rank": lambda: shrunk(arsvd.MLP([12, 14, 10, 4]), 3, 2, 1),
    "dense and low-rank": lambda: shrunk(arsvd.MLP([12, 14, 10, 4]), None, 2, None),
    "activation basis, no biases": lambda: shrunk(
        nn.Sequential(nn.Linear(12, 14, bias=False), nn.ReLU(), nn.Linear(14, 4, bias=False)),
        2,
        None,
        calibration=torch.randn(30, 12),
    ),
    "whole": lambda: arsvd.whole(shrunk(arsvd.MLP([12, 14, 4]), 3, 1), [0.1, 0.2, 0.3], [0.5, 0.4, 0.3]),
    "nested sequential": lambda: nn.Sequential(
        nn.Sequential(nn.Flatten(), shrunk(nn.Linear(12, 10), 2)),
        nn.Sequential(nn.Sequential(nn.Linear(10, 4))),
    ),
    "every known part": every_part,
    "one linear layer": lambda: nn.Linear(12, 4),
    "one low-rank layer": lambda: shrunk(nn.Linear(12, 9), 2),
}


def inputs_for(name: str, rows: int) -> Tensor:
    return torch.rand(rows, 3, 2, 2) if name == "whole" else torch.randn(rows, 12)


class TestSameLogits:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
    @pytest.mark.parametrize("name", MODELS)
    def test_models_are_loaded_from_the_file_alone(
        self, tmp_path: Path, name: str, dtype: torch.dtype
    ) -> None:
        model = MODELS[name]().to(dtype).eval()
        arsvd.save(model, tmp_path / "model.safetensors")
        loaded = arsvd.load(tmp_path / "model.safetensors")
        for rows in BATCHES:
            x = inputs_for(name, rows).to(dtype)
            assert torch.equal(loaded(x), model(x))
        assert str(loaded) == str(model)
        assert [type(m) for m in loaded.modules()] == [type(m) for m in model.modules()]
        assert not any(m.training for m in loaded.modules())
        assert list(loaded.state_dict()) == list(model.state_dict())
        assert {t.dtype for t in loaded.state_dict().values()} == {dtype}

    def test_into_a_model_of_its_own_kind(self, tmp_path: Path, anything: nn.Module) -> None:
        spectra = arsvd.spectra(anything)
        small = arsvd.compress(anything, spectra, arsvd.plan(spectra, Ranks((1,) * len(spectra))))
        # in a list, since the file alone rebuilds some of these models
        arsvd.save(nn.ModuleList([small]), tmp_path / "model.safetensors")
        into = nn.ModuleList([copy.deepcopy(anything)])
        for parameter in into.parameters():
            nn.init.normal_(parameter)
        loaded = arsvd.load(tmp_path / "model.safetensors", into=into)[0]
        for rows in BATCHES:
            x = torch.randn(rows, 12)
            with torch.no_grad():
                assert torch.equal(loaded(x), small(x))
        assert sum(p.numel() for p in loaded.parameters()) == sum(p.numel() for p in small.parameters())

    @pytest.mark.parametrize("device", ["cpu", CUDA])
    def test_onto_a_device(self, tmp_path: Path, device: str) -> None:
        model = shrunk(arsvd.MLP([12, 14, 4]), 3, 1).to(device)
        arsvd.save(model, tmp_path / "model.safetensors")
        loaded = arsvd.load(tmp_path / "model.safetensors", device=device)
        x = torch.randn(7, 12, device=device)
        torch.testing.assert_close(loaded(x), model(x))


class Mixed(nn.Module):
    """Half-precision layers around a norm in float32, as mixed-precision models have them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(12, 10, dtype=torch.bfloat16)
        self.norm = nn.BatchNorm1d(10)
        self.last = nn.Linear(10, 4, dtype=torch.float16, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.norm(self.first(x).float()).half())


class TestStoredOnce:
    def test_mixed_dtypes_stay_as_they_are(self, tmp_path: Path) -> None:
        small = shrunk(Mixed().eval(), 2, 1)
        small.norm.running_mean += 1 / 3
        arsvd.save(small, tmp_path / "m.safetensors")
        for into in (Mixed(), Mixed().float()):
            loaded = arsvd.load(tmp_path / "m.safetensors", into=into)
            assert all(
                torch.equal(a, b) and a.dtype == b.dtype
                for a, b in zip(loaded.state_dict().values(), small.state_dict().values(), strict=True)
            )

    def test_a_layer_registered_twice_is_one_again(self, tmp_path: Path) -> None:
        layer = LowRankLinear(6, 2, 6)
        model = nn.Sequential(layer, nn.ReLU(), layer, nn.Linear(6, 3))
        arsvd.save(model, tmp_path / "m.safetensors")
        loaded = arsvd.load(tmp_path / "m.safetensors")
        x = torch.randn(7, 6)
        assert torch.equal(loaded(x), model(x))
        assert sum(p.numel() for p in loaded.parameters()) == sum(p.numel() for p in model.parameters())
        assert loaded[0].left is loaded[2].left
        assert stored_numbers(tmp_path / "m.safetensors") == sum(p.numel() for p in model.parameters())

    def test_a_weight_and_its_transposed_view_are_two(self, tmp_path: Path) -> None:
        model = nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 5))
        model[1].weight = nn.Parameter(model[0].weight.detach().T)
        arsvd.save(model, tmp_path / "m.safetensors")
        loaded = arsvd.load(tmp_path / "m.safetensors")
        assert torch.equal(loaded[0].weight, model[0].weight)
        assert torch.equal(loaded[1].weight, model[0].weight.T)


def parts_of(path: Path) -> tuple[dict[str, Any], bytes]:
    """Take a safetensors file apart by hand: eight bytes of length, JSON, numbers."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def stored_numbers(path: Path) -> int:
    _, data = parts_of(path)
    return len(data) // 4


class TestNoPickle:
    def test_neither_writes_nor_reads_a_pickle(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*args: object, **kwargs: object) -> None:
            raise AssertionError("a pickle was made or read")

        for owner, names in ((pickle, ("dump", "dumps", "load", "loads", "Pickler", "Unpickler")),):
            for name in names:
                monkeypatch.setattr(owner, name, refuse)
        monkeypatch.setattr(torch, "save", refuse)
        monkeypatch.setattr(torch, "load", refuse)
        model = MODELS["whole"]().eval()
        arsvd.save(model, tmp_path / "m.safetensors", {"note": "x"})
        loaded, x = arsvd.load(tmp_path / "m.safetensors"), inputs_for("whole", 7)
        assert torch.equal(loaded(x), model(x))

    def test_the_file_is_json_and_numbers_and_nothing_else(self, tmp_path: Path) -> None:
        model = MODELS["dense and low-rank"]()
        arsvd.save(model, tmp_path / "m.safetensors")
        described, data = parts_of(tmp_path / "m.safetensors")
        header = json.loads(described.pop("__metadata__")["arsvd"])
        assert len(data) == 4 * sum(t.numel() for t in model.state_dict().values())
        assert sum(d["data_offsets"][1] - d["data_offsets"][0] for d in described.values()) == len(data)
        assert header["version"] == serialization.FORMAT_VERSION == 1
        assert header["low_rank"] == {"linear2": [14, 2, 10]}
        assert b"\x80\x04" not in data[:2]
        with pytest.raises(pickle.UnpicklingError):
            pickle.load(io.BytesIO((tmp_path / "m.safetensors").read_bytes()))


class TestMetadata:
    def test_comes_back_without_the_weights(self, tmp_path: Path) -> None:
        metadata = {"dataset": "digits", "accuracy": 0.98, "ranks": [3, None], "nested": {"a": True}}
        arsvd.save(arsvd.MLP([4, 3]), tmp_path / "a.safetensors", metadata)
        arsvd.save(arsvd.MLP([4, 3]), str(tmp_path / "b.safetensors"))
        assert read_metadata(tmp_path / "a.safetensors") == metadata
        assert read_metadata(tmp_path / "b.safetensors") == {}

    @pytest.mark.parametrize(
        ("metadata", "error", "message"),
        [
            pytest.param({"x": torch.ones(1)}, TypeError, "Tensor is not JSON serializable", id="a tensor"),
            pytest.param({"x": float("nan")}, ValueError, "not JSON compliant", id="nan"),
        ],
    )
    def test_values_that_json_cannot_hold_are_refused(
        self, tmp_path: Path, metadata: dict[str, Any], error: type[Exception], message: str
    ) -> None:
        with pytest.raises(error, match=message):
            arsvd.save(arsvd.MLP([4, 3]), tmp_path / "m.safetensors", metadata)
        assert list(tmp_path.iterdir()) == []


class TestAtomicWrites:
    @pytest.mark.parametrize("step", ["save_file", "replace"])
    def test_a_failing_write_leaves_the_old_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
    ) -> None:
        def fail(*args: object, **kwargs: object) -> None:
            if step == "save_file":
                Path(str(args[1])).write_bytes(b"half of")
            raise OSError("no space left on device")

        old = arsvd.MLP([4, 3])
        arsvd.save(old, tmp_path / "m.safetensors")
        monkeypatch.setattr(serialization if step == "save_file" else os, step, fail)
        with pytest.raises(OSError, match="no space left on device"):
            arsvd.save(arsvd.MLP([4, 3]), tmp_path / "m.safetensors")
        monkeypatch.undo()
        assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]
        assert torch.equal(arsvd.load(tmp_path / "m.safetensors").linear1.weight, old.linear1.weight)

    def test_a_new_file_replaces_the_old_one_and_others_may_read_it(self, tmp_path: Path) -> None:
        for widths in ([4, 3], [5, 4, 3]):
            arsvd.save(arsvd.MLP(widths), tmp_path / "m.safetensors")
        assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]
        assert arsvd.load(tmp_path / "m.safetensors").linear1.in_features == 5
        assert (tmp_path / "m.safetensors").stat().st_mode & 0o777 == 0o644


def rewrite(path: Path, header: object) -> None:
    save_file({"weight": torch.ones(2)}, path, {"arsvd": json.dumps(header)})


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda p: p.write_bytes(b""), "m.safetensors is not a whole safetensors file"),
    "text": (lambda p: p.write_text("not a model at all"), "m.safetensors is not a whole safetensors file"),
    "a pickle": (
        lambda p: torch.save({"w": torch.ones(3)}, p),
        "m.safetensors is not a whole safetensors file",
    ),
    "cut in the header": (
        lambda p: p.write_bytes(p.read_bytes()[:100]),
        "m.safetensors is not a whole safetensors file",
    ),
    "cut in the numbers": (
        lambda p: p.write_bytes(p.read_bytes()[:-1]),
        "m.safetensors is not a whole safetensors file",
    ),
    "too long": (
        lambda p: p.write_bytes(p.read_bytes() + b"x"),
        "m.safetensors is not a whole safetensors file",
    ),
    "foreign": (
        lambda p: save_file({"w": torch.ones(3)}, p),
        "this library did not write: its header is missing",
    ),
    "foreign metadata": (
        lambda p: save_file({"w": torch.ones(3)}, p, {"format": "pt"}),
        "this library did not write: its header is missing",
    ),
    "later version": (
        lambda p: rewrite(p, {"version": 3}),
        "m.safetensors is of format 3; this release reads format 1",
    ),
    "no version": (lambda p: rewrite(p, {}), "m.safetensors is of format None; this release reads format 1"),
    "another header": (
        lambda p: rewrite(p, [1]),
        "m.safetensors is of format None; this release reads format 1",
    ),
    "an unknown part": (
        lambda p: rewrite(p, {"version": 1, "architecture": {"kind": "os.system"}, "low_rank": {}}),
        r"the file names a part 'os\.system'; known are \['conv2d', 'dropout', 'flatten', 'gelu'",
    ),
}


class TestBadFiles:
    @pytest.mark.parametrize("name", DAMAGE)
    def test_damaged_files_are_named(self, tmp_path: Path, name: str) -> None:
        damage, message = DAMAGE[name]
        arsvd.save(arsvd.MLP([4, 3]), tmp_path / "m.safetensors")
        damage(tmp_path / "m.safetensors")
        with pytest.raises(ValueError, match=message):
            arsvd.load(tmp_path / "m.safetensors")

    @pytest.mark.parametrize("read", [arsvd.load, read_metadata], ids=["load", "read_metadata"])
    def test_a_missing_file_is_named(self, tmp_path: Path, read: Callable[[Path], object]) -> None:
        for path in (tmp_path / "absent", tmp_path):
            with pytest.raises(FileNotFoundError, match=f"there is no file {path}"):
                read(path)

    def test_parts_that_only_their_own_code_can_build(self, tmp_path: Path) -> None:
        arsvd.save(nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)), tmp_path / "m.safetensors")
        with pytest.raises(ValueError, match="made of parts that only its own code can build: pass into="):
            arsvd.load(tmp_path / "m.safetensors")

    @pytest.mark.parametrize(
        ("into", "message"),
        [
            pytest.param(
                arsvd.MLP([12, 14]), "low-rank layer 'linear2' of 14 -> 4, the model has None", id="fewer"
            ),
            pytest.param(arsvd.MLP([12, 9, 4]), "low-rank layer 'linear1' of 12 -> 14", id="narrower"),
            pytest.param(arsvd.MLP([12, 14, 4, 2]), "does not fit the model: .*Missing key", id="deeper"),
        ],
    )
    def test_into_another_model(self, tmp_path: Path, into: nn.Module, message: str) -> None:
        arsvd.save(shrunk(arsvd.MLP([12, 14, 4]), 3, 1), tmp_path / "m.safetensors")
        with pytest.raises(ValueError, match=f"(?s){message}"):
            arsvd.load(tmp_path / "m.safetensors", into=into)
