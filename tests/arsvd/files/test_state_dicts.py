"""State dicts as people keep them: inside checkpoints, prefixed, tied, in dtypes of all kinds."""

import io
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import arsvd
from arsvd.files.pickled import pickled_content


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))


def prefixed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


def optimizer(model: nn.Module) -> dict[str, Any]:
    made = torch.optim.AdamW(model.parameters())
    model(torch.randn(5, 4)).sum().backward()
    made.step()
    return made.state_dict()


# name: what is saved of a model and its state dict, what is told; None where it is read without a word
TAKEN: dict[str, tuple[Callable[[nn.Module, dict[str, Tensor]], Any], str | None]] = {
    "as it is": (lambda m, s: s, None),
    "a checkpoint": (
        lambda m, s: {"model": s, "optimizer": optimizer(m), "epoch": 3},
        "is a checkpoint: the weights are its entry 'model'",
    ),
    "a checkpoint of Lightning": (
        lambda m, s: {"state_dict": prefixed(s, "net."), "epoch": 3, "hyper_parameters": {"lr": 0.1}},
        "taken without 'net.', with which all begin",
    ),
    "a best accuracy that is a tensor": (
        lambda m, s: {"model": s, "best": torch.tensor(0.9)},
        "the weights are its entry 'model'",
    ),
    "a number beside": (lambda m, s: {**s, "epoch": 3}, "left out: epoch"),
    "DataParallel": (lambda m, s: prefixed(s, "module."), "taken without 'module.'"),
    "torch.compile": (lambda m, s: prefixed(s, "_orig_mod."), "taken without '_orig_mod.'"),
    "both": (lambda m, s: prefixed(s, "module._orig_mod."), "without 'module.' and '_orig_mod.'"),
    "a part compiled": (
        lambda m, s: {n.replace("0.", "0._orig_mod.", 1): t for n, t in s.items()},
        "taken without '_orig_mod.'",
    ),
    "no counters": (lambda m, s: {n: t for n, t in s.items() if "num_batches" not in n}, None),
    "float64": (
        lambda m, s: {n: t.double() if t.is_floating_point() else t for n, t in s.items()},
        "weights of float64 were taken as the float32 of the model",
    ),
    "bfloat16": (
        lambda m, s: {n: t.bfloat16() if t.is_floating_point() else t for n, t in s.items()},
        "weights of bfloat16 were taken as the float32 of the model",
    ),
}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", TAKEN)
def test_unambiguous_state_dicts_are_taken_and_reported(tmp_path: Path, name: str, zipped: bool) -> None:
    make, words = TAKEN[name]
    model = net().eval()
    state = OrderedDict(model.state_dict())
    torch.save(make(model, state), tmp_path / "m.ckpt", _use_new_zipfile_serialization=zipped)
    lines: list[str] = []
    read = arsvd.read_model(tmp_path / "m.ckpt", net, lines.append)
    x = torch.randn(7, 4)
    reference = net().eval()
    reference.load_state_dict(state)
    tolerance = 5e-2 if name == "bfloat16" else 1e-6
    torch.testing.assert_close(read(x), reference(x), rtol=tolerance, atol=tolerance)
    assert (not lines) if words is None else any(words in line for line in lines), lines


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wte = nn.Embedding(9, 4)
        self.inner = nn.Linear(4, 4)
        self.head = nn.Linear(4, 9, bias=False)
        self.head.weight = self.wte.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.inner(self.wte(ids)).mean(1))


def test_tied_weights_are_needed_once_and_must_agree(tmp_path: Path) -> None:
    model = Tied().eval()
    state = model.state_dict()
    del state["head.weight"]
    torch.save(state, tmp_path / "once.pt")
    read = arsvd.read_model(tmp_path / "once.pt", Tied)
    ids = torch.randint(0, 9, (3, 5))
    assert torch.equal(read(ids), model(ids))
    torch.save({**state, "head.weight": torch.ones(9, 4)}, tmp_path / "apart.pt")
    with pytest.raises(ValueError, match=r"wte\.weight and head\.weight are one tensor in the model"):
        arsvd.read_model(tmp_path / "apart.pt", Tied)


class Counting(nn.Linear):
    """Keeps something beside its tensors."""

    seen = 0

    def get_extra_state(self) -> int:
        return self.seen

    def set_extra_state(self, state: int) -> None:
        self.seen = state


def test_extra_states_come_along(tmp_path: Path) -> None:
    model = nn.Sequential(Counting(4, 3))
    model[0].seen = 7  # type: ignore[assignment]
    torch.save(model.state_dict(), tmp_path / "m.pt")
    assert arsvd.read_model(tmp_path / "m.pt", lambda: nn.Sequential(Counting(4, 3)))[0].seen == 7  # type: ignore[index]


def changed(**tensors: Any) -> dict[str, Any]:
    return {**nn.Linear(4, 3).state_dict(), **tensors}


def inferred() -> nn.Module:
    with torch.inference_mode():
        return nn.Linear(4, 3)


W = torch.randn(3, 4)
# name: what is saved, the factory, the text
REFUSED: dict[str, tuple[Callable[[], Any], Callable[[], nn.Module], str]] = {
    "two that fit": (
        lambda: {"model": changed(), "ema": changed()},
        lambda: nn.Linear(4, 3),
        "holds several state dicts: model, ema. Several fit",
    ),
    "two of which none fits": (
        lambda: {"generator": {"a": W}, "critic": {"b": W}},
        lambda: nn.Linear(4, 3),
        "several state dicts: generator, critic. None of them fits",
    ),
    "only an optimizer": (lambda: {"optimizer": optimizer(net())}, net, "hold no tensors"),
    "meta": (lambda: changed(weight=W.to("meta")), lambda: nn.Linear(4, 3), "weight is a meta tensor"),
    "quantised": (
        lambda: changed(weight=torch.quantize_per_tensor(W, 0.1, 0, torch.qint8)),
        lambda: nn.Linear(4, 3),
        "weight is quantised in the file: save its dequantize",
    ),
    "sparse": (lambda: changed(weight=W.to_sparse()), lambda: nn.Linear(4, 3), "weight is sparse"),
    "complex": (
        lambda: changed(weight=W.to(torch.complex64)),
        lambda: nn.Linear(4, 3),
        "weight holds complex64 in the file and float32 in the model",
    ),
    "codes": (lambda: changed(weight=W.to(torch.int8)), lambda: nn.Linear(4, 3), "holds int8 in the file"),
    "8-bit floats": (
        lambda: changed(weight=W.to(torch.float8_e4m3fn)),
        lambda: nn.Linear(4, 3),
        "holds float8_e4m3fn in the file",
    ),
    "a meta model": (changed, lambda: nn.Linear(4, 3, device="meta"), "is on the meta device"),
    "a lazy model": (changed, lambda: nn.LazyLinear(3), "has no shape yet"),
    "a model of inference mode": (changed, inferred, "was made in inference mode"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_content_that_cannot_be_weights_is_refused_with_the_reason(tmp_path: Path, name: str) -> None:
    content, factory, text = REFUSED[name]
    torch.save(content(), tmp_path / "m.bin")
    with pytest.raises(ValueError, match=text):
        arsvd.read_model(tmp_path / "m.bin", factory)


def rewritten(path: Path, change: Callable[[str, bytes], bytes], packed: bool = False) -> Path:
    """A file of torch.save with its parts changed."""
    whole = io.BytesIO()
    torch.save({"w": torch.ones(2000)}, whole)
    method = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(path, "w", method) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return path


DEEP = b"\x80\x02}(" + b")" + b"\x85" * 100_000 + b"K\x01u."  # a dict whose key is a tuple of a tuple of …


class TestHostile:
    def test_tuples_within_tuples(self, tmp_path: Path) -> None:
        """Python's own hash of such a key ends the process."""
        (tmp_path / "legacy.pt").write_bytes(DEEP)
        rewritten(tmp_path / "zip.pt", lambda name, old: DEEP if name.endswith("data.pkl") else old)
        for name in ("legacy.pt", "zip.pt"):
            with pytest.raises(ValueError, match="nested more than 50 deep"):
                pickled_content(tmp_path / name, zipped=name == "zip.pt")

    def test_parts_that_unpack(self, tmp_path: Path) -> None:
        path = rewritten(tmp_path / "m.pt", lambda _, old: old + bytes(10**7), packed=True)
        with pytest.raises(ValueError, match="its parts are packed"):
            arsvd.read_model(path, nn.ReLU)

    @pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
    def test_tensors_larger_than_the_file(self, tmp_path: Path, zipped: bool) -> None:
        """The size of a tensor is written over in the pickle that describes it: 2000 as 2**30."""
        small, large = b"M" + (2000).to_bytes(2, "little"), b"J" + (2**30).to_bytes(4, "little")
        if zipped:
            path = rewritten(tmp_path / "m.pt", lambda _, old: old.replace(small, large))
        else:
            whole = io.BytesIO()
            torch.save({"w": torch.ones(2000)}, whole, _use_new_zipfile_serialization=False)
            path = tmp_path / "m.pt"
            path.write_bytes(whole.getvalue().replace(small, large))
        with pytest.raises(ValueError, match=r"is not a whole file of torch\.save"):
            arsvd.read_model(path, nn.ReLU)
