"""Models that were trained elsewhere: every form of file, there and back."""

import io
import json
import logging
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import arsvd


class Residual(nn.Module):
    """With LayerNorm, dropout, a parameter of its own, and one layer that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(12, 16)
        self.norm = nn.LayerNorm(16)
        self.block = nn.Linear(16, 16)
        self.dropout = nn.Dropout(0.5)
        self.scale = nn.Parameter(torch.full((16,), 0.7))
        self.head = nn.Linear(16, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.dropout(self.block(torch.relu(self.norm(x))))
        return self.head(x + self.block(x) * self.scale)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(12, 2, batch_first=True)
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = x.reshape(-1, 3, 12)
        return self.head(self.attention(x, x, x, need_weights=False)[0].mean(1))


class Tied(nn.Module):
    """An embedding whose weight is the output layer's as well."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(12, 8)
        self.table = nn.Parameter(torch.randn(6, 8))
        self.free = nn.Parameter(torch.randn(5, 6))

    def forward(self, x: Tensor) -> Tensor:
        logits = nn.functional.linear(self.inner(x), self.table)
        return nn.functional.linear(logits + self.table.sum(1), self.free)


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 4)),
    )


# name: the model, the shape of one row, the layers that an exported one has
MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], list[str]]] = {
    "convnet": (convolutional, (1, 8, 8), ["0.0", "1.1", "1.3"]),
    "residual": (Residual, (12,), ["stem", "block", "head"]),
    "attention": (Attention, (36,), ["attention.in_proj", "attention.out_proj", "head"]),
    "a tied weight stays dense": (Tied, (12,), ["inner", "free"]),
    "mlp": (lambda: arsvd.MLP([12, 10, 4]), (12,), ["linear1", "linear2"]),
    "a linear layer as the root": (lambda: nn.Linear(12, 4), (12,), ["linear"]),
}


@pytest.fixture(params=MODELS)
def case(request: pytest.FixtureRequest) -> tuple[nn.Module, Tensor, list[str]]:
    make, row, layers = MODELS[request.param]
    return make().eval(), torch.randn(7, *row), layers


def export(model: nn.Module, example: Tensor, path: Path, decompose: bool = False) -> Path:
    batch = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(model, (example,), dynamic_shapes=batch)
    torch.export.save(program.run_decompositions() if decompose else program, path)
    return path


@torch.no_grad()
def assert_same(a: nn.Module, b: nn.Module, x: Tensor) -> None:
    for inputs in (x[:1], x, torch.cat([x] * 5)):
        torch.testing.assert_close(a(inputs), b(inputs), rtol=1e-6, atol=1e-6)


class TestExported:
    def test_read_compressed_and_written_back(
        self, case: tuple[nn.Module, Tensor, list[str]], tmp_path: Path
    ) -> None:
        model, x, layers = case
        path = export(model, x[:3], tmp_path / "model.pt2")
        read = arsvd.read_model(path)
        assert list(arsvd.find_sites(read)) == layers
        assert not read.training
        assert_same(read, model, x)
        assert sum(p.numel() for p in read.parameters()) == sum(p.numel() for p in model.parameters())

        spectra = arsvd.spectra(read, x.repeat(4, *[1] * (x.ndim - 1)) + 0.1)
        plan = arsvd.plan(spectra, arsvd.Energy(0.5))
        small = arsvd.compress(read, spectra, plan)
        assert sum(p.numel() for p in small.parameters()) == plan.params < plan.dense_params
        arsvd.write_model(small, tmp_path / "small.pt2", metadata={"plan": plan.to_dict()})
        extra = {"arsvd.json": ""}
        assert_same(torch.export.load(tmp_path / "small.pt2", extra_files=extra).module(), small, x)
        assert arsvd.Plan.from_dict(json.loads(extra["arsvd.json"])["plan"]) == plan
        assert_same(arsvd.read_model(tmp_path / "small.pt2"), small, x)

        arsvd.write_model(small, tmp_path / "small.safetensors")
        assert_same(arsvd.load(tmp_path / "small.safetensors", into=arsvd.read_model(path)), small, x)
        assert_same(read, model, x)

    @pytest.mark.parametrize("name", ["convnet", "residual"])
    def test_decomposed_programs(self, name: str, tmp_path: Path) -> None:
        """There a linear layer is a transposition and an addmm."""
        make, row, layers = MODELS[name]
        model, x = make().eval(), torch.randn(5, *row)
        read = arsvd.read_model(export(model, x, tmp_path / "model.pt2", decompose=True))
        assert list(arsvd.find_sites(read)) == layers
        assert_same(read, model, x)

    def test_a_layer_called_twice_is_one_module(self, tmp_path: Path) -> None:
        read = arsvd.read_model(export(Residual().eval(), torch.randn(3, 12), tmp_path / "model.pt2"))
        calls = [node.target for node in read.graph.nodes if node.op == "call_module"]  # type: ignore[union-attr]
        assert calls.count("block") == 2

    def test_front(self, tmp_path: Path) -> None:
        x = torch.randn(300, 12)
        read = arsvd.read_model(export(Residual().eval(), x[:3], tmp_path / "model.pt2"))
        labels = read(x).argmax(1)
        points = arsvd.front(read, arsvd.spectra(read, x), (x, labels))
        assert points[-1].accuracy == 1.0
        assert len(points) > 3

    def test_inputs_of_another_shape(self, tmp_path: Path) -> None:
        read = arsvd.read_model(export(convolutional().eval(), torch.randn(3, 1, 8, 8), tmp_path / "m.pt2"))
        with pytest.raises(ValueError, match=r"takes inputs of shape \(any, 1, 8, 8\), got \(5, 1, 8, 9\)"):
            arsvd.spectra(read, torch.randn(5, 1, 8, 9))

    def test_torch_logs_as_before(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        logger = logging.getLogger("torch._export")
        level = logger.level
        arsvd.read_model(export(Residual().eval(), torch.randn(3, 12), tmp_path / "model.pt2"))
        assert logger.level == level
        assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(12, 4)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.layer(x + y)


class Dictionary(Two):
    def forward(self, x: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        return {"logits": self.layer(x)}


def test_programs_that_cannot_be_compressed(tmp_path: Path) -> None:
    x, batch = torch.randn(3, 12), {0: torch.export.Dim("batch")}
    one, dropping = arsvd.MLP([12, 4]), arsvd.MLP([12, 8, 4], dropout=0.5).train()
    programs = {
        "batches of exactly 3": torch.export.export(one, (x,)),
        "does not map one tensor to one tensor": torch.export.export(
            Two(), (x, x), dynamic_shapes=(batch,) * 2
        ),
        "one tensor, forward": torch.export.export(Dictionary(), (x,), dynamic_shapes=(batch,)),
        "without any linear layer": torch.export.export(nn.ReLU(), (x,), dynamic_shapes=(batch,)),
        "exported in training mode": torch.export.export(dropping, (x,), dynamic_shapes=(batch,)),
    }
    for text, program in programs.items():
        torch.export.save(program, tmp_path / "m.pt2")
        with pytest.raises(ValueError, match=f"m.pt2 .*{text}"):
            arsvd.read_model(tmp_path / "m.pt2")


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


class TestNothingIsUnpickled:
    @pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
    @pytest.mark.parametrize("suffix", [".pt", ".pth"])
    def test_state_dicts(self, tmp_path: Path, suffix: str, zipped: bool) -> None:
        path = tmp_path / f"model{suffix}"
        torch.save(
            {"w": torch.ones(2), "x": Touch(tmp_path / "ran")}, path, _use_new_zipfile_serialization=zipped
        )
        with pytest.raises(ValueError, match=r"needs pickle.*[Nn]othing of it was unpickled.*state_dict"):
            arsvd.read_model(path, nn.ReLU)
        assert not (tmp_path / "ran").exists()
        torch.load(path, weights_only=False)
        assert (tmp_path / "ran").exists()  # so the trap works

    def test_plain_pickle_and_whole_module(self, tmp_path: Path) -> None:
        (tmp_path / "a.pt").write_bytes(pickle.dumps(Touch(tmp_path / "ran")))
        torch.save(nn.Linear(3, 2), tmp_path / "b.pt")
        for name in ("a.pt", "b.pt"):
            with pytest.raises(ValueError, match="needs pickle"):
                arsvd.read_model(tmp_path / name, nn.ReLU)
        assert not (tmp_path / "ran").exists()

    @pytest.mark.parametrize("part", ["sample inputs", "weights", "constants", "sizes", "compiled"])
    def test_exported(self, tmp_path: Path, part: str) -> None:
        """A program with a pickle put in place of one of its parts."""
        source = export(arsvd.MLP([12, 4]).eval(), torch.randn(3, 12), tmp_path / "good.pt2")
        trap = io.BytesIO()
        torch.save((Touch(tmp_path / "ran"),), trap)
        changed = 0
        with zipfile.ZipFile(source) as old, zipfile.ZipFile(tmp_path / "bad.pt2", "w") as new:
            for name in old.namelist():
                content = before = old.read(name)
                if part == "sample inputs" and name.endswith(".pt"):
                    content = trap.getvalue()
                elif part == "weights" and "weights_config" in name:
                    content = content.replace(b'"use_pickle": false', b'"use_pickle": true')
                elif part == "constants" and "constants_config" in name:
                    entry = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": False}
                    content = json.dumps({"config": {"c": {**entry, "tensor_meta": None}}}).encode()
                elif part == "sizes" and "models/" in name:
                    content = content.replace(b"Symbol('s", b"exec('s")
                elif part == "compiled" and name.endswith("/archive_version"):
                    new.writestr("archive/data/aotinductor/model/model.so", b"")
                    changed += 1
                changed += content != before
                new.writestr(name, content)
        assert changed
        with pytest.raises(ValueError, match=r"bad\.pt2 (needs pickle|states a size|holds compiled code)"):
            arsvd.read_model(tmp_path / "bad.pt2")
        assert not (tmp_path / "ran").exists()


class TestStateDicts:
    @pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth"])
    def test_with_a_factory(
        self, case: tuple[nn.Module, Tensor, list[str]], tmp_path: Path, suffix: str
    ) -> None:
        model, x, _ = case
        make = next(make for make, _, layers in MODELS.values() if layers == case[2])
        path = tmp_path / f"weights{suffix}"
        state = model.state_dict()
        save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
        read = arsvd.read_model(path, make)
        assert not read.training
        assert_same(read, model, x)
        with pytest.raises(ValueError, match=r"holds weights but no architecture.*a factory"):
            arsvd.read_model(path)

    @pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
    def test_every_misfit_is_named(self, tmp_path: Path, suffix: str) -> None:
        state = {"linear1.weight": torch.ones(9, 12), "extra": torch.ones(1)}
        path = tmp_path / f"weights{suffix}"
        save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
        text = (
            r"the file lacks linear1.bias; the model has no extra; "
            r"linear1.weight is \(9, 12\) in the file and \(4, 12\) in the model"
        )
        with pytest.raises(ValueError, match=text):
            arsvd.read_model(path, lambda: arsvd.MLP([12, 4]))

    def test_factories_that_do_not_return_a_module_are_refused(self, tmp_path: Path) -> None:
        save_file({"w": torch.ones(1)}, tmp_path / "w.safetensors")
        with pytest.raises(TypeError, match=r"must make an nn\.Module, it made a int"):
            arsvd.read_model(tmp_path / "w.safetensors", lambda: 3)  # type: ignore[arg-type, return-value]

    # name: what is saved, the text
    @pytest.mark.parametrize(
        ("content", "text"),
        [
            ([torch.ones(2)], "holds a list, not a state dict"),
            ({}, "holds no state dict"),
            ({"epoch": 3, "args": {"lr": 0.1}}, "its keys epoch, args hold no tensors"),
        ],
        ids=["a list", "nothing", "a checkpoint"],
    )
    def test_other_contents_are_refused(self, tmp_path: Path, content: object, text: str) -> None:
        torch.save(content, tmp_path / "c.pt")
        with pytest.raises(ValueError, match=text):
            arsvd.read_model(tmp_path / "c.pt", nn.ReLU)


class TestOwnFiles:
    def test_with_and_without_a_factory(self, tmp_path: Path) -> None:
        x = torch.randn(7, 12)
        for model, factory in ((arsvd.MLP([12, 10, 4]), None), (Residual().eval(), Residual)):
            spectra = arsvd.spectra(model, x)
            small = arsvd.compress(model, spectra, arsvd.plan(spectra, arsvd.Energy(0.5)))
            arsvd.write_model(small, tmp_path / "m.safetensors")
            assert_same(arsvd.read_model(tmp_path / "m.safetensors", factory), small, x)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pt2", ".bin"])
@pytest.mark.parametrize(
    "content", [b"", b"no model at all", b"PK\x03\x04 cut"], ids=["empty", "text", "cut"]
)
def test_damaged_files(tmp_path: Path, suffix: str, content: bytes) -> None:
    (tmp_path / f"m{suffix}").write_bytes(content)
    with pytest.raises(ValueError, match=rf"m\{suffix} (is not a whole|needs pickle)"):
        arsvd.read_model(tmp_path / f"m{suffix}", None if suffix == ".pt2" else nn.ReLU)


def test_a_cut_export(tmp_path: Path) -> None:
    path = export(arsvd.MLP([12, 4]).eval(), torch.randn(3, 12), tmp_path / "m.pt2")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"m\.pt2 is not"):
        arsvd.read_model(path)


def test_files_that_are_not_there_and_needless_factories(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no file"):
        arsvd.read_model(tmp_path / "m.pt2")
    export(arsvd.MLP([12, 4]).eval(), torch.randn(3, 12), tmp_path / "m.pt2")
    with pytest.raises(ValueError, match="leave the factory out"):
        arsvd.read_model(tmp_path / "m.pt2", nn.ReLU)


class Fixed(nn.Module):
    """Cannot be exported with a dynamic batch."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + len(x.tolist())


# name: the model, the file, the example, the text
UNWRITABLE: dict[str, tuple[Callable[[], nn.Module], str, Tensor | None, str]] = {
    "no example": (Residual, "m.pt2", None, "example inputs of the model are needed"),
    "one row": (Residual, "m.pt2", torch.ones(1, 12), "2 rows or more"),
    "another width": (Residual, "m.pt2", torch.ones(3, 11), "cannot be exported"),
    "no dynamic batch": (Fixed, "m.pt2", torch.ones(3, 12), "cannot be exported"),
    "another ending": (Residual, "m.onnx", None, "written as .safetensors or .pt2, not as 'm.onnx'"),
}


@pytest.mark.parametrize(("make", "name", "example", "text"), UNWRITABLE.values(), ids=UNWRITABLE)
def test_models_that_cannot_be_written(
    tmp_path: Path, make: Callable[[], nn.Module], name: str, example: Tensor | None, text: str
) -> None:
    with pytest.raises(ValueError, match=text):
        arsvd.write_model(make().eval(), tmp_path / name, example)
    assert list(tmp_path.iterdir()) == []
