"""Files of weights are known by their first bytes, whatever they are called."""

import gzip
import io
import json
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import arsvd


def exported(path: Path) -> None:
    batch = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(arsvd.MLP([4, 3]).eval(), (torch.zeros(2, 4),), dynamic_shapes=batch)
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    path.write_bytes(buffer.getvalue())


def scripted(path: Path) -> None:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.trace(nn.Linear(4, 3), torch.zeros(2, 4)), buffer)
    path.write_bytes(buffer.getvalue())


def zipped(*names: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, "content")

    return write


def tarred(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("weights"))


def state() -> dict[str, torch.Tensor]:
    return arsvd.MLP([4, 3]).state_dict()


# name: writes the file, whether a factory goes with it
READ: dict[str, tuple[Callable[[Path], object], bool]] = {
    "a program": (exported, False),
    "torch.save": (lambda p: torch.save(state(), p), True),
    "torch.save, legacy": (lambda p: torch.save(state(), p, _use_new_zipfile_serialization=False), True),
    "safetensors": (lambda p: save_file(state(), p), True),
    "arsvd.save": (lambda p: arsvd.save(arsvd.MLP([4, 3]), p.with_name("m.safetensors")), False),
}
ENDINGS = [".bin", ".ckpt", ".pt", ".pth", ".pkl", ".pt2", ".safetensors", ".onnx", ".PT", ""]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("name", READ)
def test_supported_files_are_read_under_any_name(tmp_path: Path, name: str, ending: str) -> None:
    write, with_factory = READ[name]
    path = tmp_path / f"m{ending}"
    write(path)
    if name == "arsvd.save":
        (tmp_path / "m.safetensors").rename(path)
    model = arsvd.read_model(path, (lambda: arsvd.MLP([4, 3])) if with_factory else None)
    assert model(torch.zeros(5, 4)).shape == (5, 3)


# name: writes the file, what is said of it
REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "TorchScript": (scripted, "is a TorchScript program, whose code is not read: save the weights alone"),
    "a pickle": (lambda p: p.write_bytes(pickle.dumps(nn.Linear(4, 3))), "needs pickle"),
    "HDF5": (lambda p: p.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99)), "is HDF5, as Keras"),
    "Keras": (zipped("config.json", "metadata.json", "model.weights.h5"), "is a model of Keras"),
    "ONNX": (lambda p: p.write_bytes(b"\x08\x08\x12\x07pytorch" + bytes(99)), "is a model in ONNX"),
    "GGUF": (lambda p: p.write_bytes(b"GGUF\x03\0\0\0"), "is a model in GGUF"),
    "TFLite": (lambda p: p.write_bytes(b"\x1c\0\0\0TFL3"), "is a model of TensorFlow Lite"),
    "npy": (lambda p: p.write_bytes(b"\x93NUMPY\x01\0"), r"is an array of numpy \(\.npy\) and no model"),
    "npz": (lambda p: np.savez(p.open("wb"), a=np.ones(2)), r"is an archive of numpy arrays \(\.npz\)"),
    "zip": (zipped("folder/model.safetensors"), "is a zip archive in which no model lies"),
    "gzip": (lambda p: p.write_bytes(gzip.compress(b"x")), "is gzip, packed: unpack it first"),
    "xz": (lambda p: p.write_bytes(b"\xfd7zXZ\x00"), "is xz, packed"),
    "tar": (tarred, "is a tar archive, packed: unpack it first"),
    "Git LFS": (
        lambda p: p.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"),
        "is a pointer of Git LFS and not the file that it stands for",
    ),
    "a page": (lambda p: p.write_text("\n<!DOCTYPE html><html>404</html>"), "is a web page"),
    "XML": (lambda p: p.write_text("<?xml version='1.0'?><Error/>"), "is a web page"),
    "JSON": (lambda p: p.write_text(json.dumps({"error": "no access"})), "is JSON text"),
    "a JSON list": (lambda p: p.write_text("[[[[[[[[{}]]]]]]]]"), "is JSON text"),
    "a library": (lambda p: p.write_bytes(b"\x7fELF" + bytes(99)), "is compiled code"),
}


@pytest.mark.parametrize("ending", [".bin", ".pt", ".safetensors", ".pt2", ""])
@pytest.mark.parametrize("name", REFUSED)
def test_unsupported_files_are_named(tmp_path: Path, name: str, ending: str) -> None:
    write, text = REFUSED[name]
    path = tmp_path / f"m{ending}"
    write(path)
    with pytest.raises(ValueError, match=rf"m(\{ending})? {text}" if ending else f"m {text}"):
        arsvd.read_model(path, None if ending == ".pt2" else nn.ReLU)


@pytest.mark.parametrize("name", [n for n in REFUSED if n != "a pickle"])
def test_load_names_unsupported_files_too(tmp_path: Path, name: str) -> None:
    write, text = REFUSED[name]
    write(tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match=f"m.safetensors is not a whole safetensors file: it {text}"):
        arsvd.load(tmp_path / "m.safetensors")


def test_load_names_a_program_and_a_state_dict(tmp_path: Path) -> None:
    for write, text in ((exported, "a program of torch.export"), (READ["torch.save"][0], "torch.save")):
        write(tmp_path / "m.safetensors")
        with pytest.raises(ValueError, match=f"is not a whole safetensors file: it is .*{text}.*read_model"):
            arsvd.load(tmp_path / "m.safetensors")


@pytest.mark.parametrize("length", [2**47, 10**12, 99, 10_000_001])
def test_headers_of_safetensors_that_lie_about_their_length(tmp_path: Path, length: int) -> None:
    content = length.to_bytes(8, "little") + b"{" + b" " * (20_000_000 if length == 10_000_001 else 20)
    (tmp_path / "m.bin").write_bytes(content)
    with pytest.raises(
        ValueError, match=r"is not a whole safetensors file: it says|more than any model needs"
    ):
        arsvd.read_model(tmp_path / "m.bin", nn.ReLU)
