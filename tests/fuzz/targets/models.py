"""Models and arrays that were made elsewhere: .pt2, safetensors, state dicts, .npy and .npz."""

import io
import tempfile
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from random import Random

import numpy as np
import torch
from safetensors.numpy import save as save_numpy
from safetensors.torch import save as save_tensors
from torch import nn

import arsvd
from arsvd.files.exported import read_exported
from arsvd.files.serialization import read_metadata, read_tensors
from sweeps.foreign.arrays import read_inputs, read_labelled
from tests.fuzz.contract import Seed, Target
from tests.fuzz.mutation.containers import mutate_npy, mutate_safetensors, mutate_zip

_WIDTHS = [6, 12, 8, 3]
# torch and sympy write Python of their own and compile it: code of graphs, of named tuples, of guards
_TORCH = (
    "torch/fx/graph_module.py",
    "torch/fx/graph.py",
    "torch/fx/_lazy_graph_module.py",
    "sympy/parsing/sympy_parser.py",
    "sympy/core/sympify.py",
    "sympy/utilities/lambdify.py",
    "collections/__init__.py",
    "dataclasses.py",
    "typing.py",
)


def _model() -> nn.Module:
    torch.manual_seed(0)
    return arsvd.MLP(_WIDTHS)


@cache
def _ours() -> tuple[Seed, ...]:
    model = _model()
    spectra = arsvd.spectra(model)
    small = arsvd.compress(model, spectra, arsvd.plan(spectra, arsvd.Energy(0.5)))
    found = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        for kept in (small, nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU())):
            arsvd.save(kept, path, {"plan": {"rank": 2}, "note": "made here"})
            found.append(Seed(path.name, path.read_bytes()))
    return tuple(found)


@cache
def _plain() -> tuple[Seed, ...]:
    return (Seed("weights.safetensors", save_tensors(dict(_model().state_dict()))),)


@cache
def _state_dicts() -> tuple[Seed, ...]:
    found = []
    for ending, zipped in (("pt", True), ("pth", False)):
        packed = io.BytesIO()
        torch.save(_model().state_dict(), packed, _use_new_zipfile_serialization=zipped)
        found.append(Seed(f"weights.{ending}", packed.getvalue()))
    return tuple(found)


@cache
def _programs() -> tuple[Seed, ...]:
    packed = io.BytesIO()
    batch = torch.export.Dim("batch", min=1)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    program = torch.export.export(model, (torch.zeros(3, 6),), dynamic_shapes=({0: batch},))
    torch.export.save(program, packed)
    return (Seed("model.pt2", packed.getvalue()),)


@cache
def _inputs() -> tuple[Seed, ...]:
    draw = np.random.default_rng(0)
    arrays = (
        draw.standard_normal((4, 6)).astype(np.float32),
        draw.integers(0, 256, (2, 1, 4, 4), dtype=np.uint8),
        draw.integers(0, 9, (3, 2)),
    )
    found = []
    for array in arrays:
        packed = io.BytesIO()
        np.save(packed, array)
        found.append(Seed("inputs.npy", packed.getvalue()))
    return tuple(found)


@cache
def _labelled() -> tuple[Seed, ...]:
    arrays = {
        "inputs": np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32),
        "labels": np.array([0, 1, 2, 0, 1, 2]),
    }
    packed = io.BytesIO()
    np.savez(packed, **arrays)
    return (
        Seed("labelled.npz", packed.getvalue()),
        Seed("labelled.safetensors", save_numpy(arrays)),
    )


def _read_ours(path: Path) -> None:
    refused: ValueError | None = None
    for read in (arsvd.load, read_tensors, read_metadata, arsvd.read_model):
        try:
            read(path)
        except ValueError as error:
            refused = error
    if refused is not None:
        raise refused


def _mutate_labelled(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    return (mutate_zip if data.startswith(b"PK") else mutate_safetensors)(random, data, others)


_FILE = partial(Target, place=lambda folder, name: folder / name, refusals=(ValueError, FileNotFoundError))

TARGETS = (
    _FILE(name="safetensors-ours", seeds=_ours, read=_read_ours, mutate=mutate_safetensors, examples=40),
    _FILE(
        name="safetensors-plain",
        seeds=_plain,
        read=lambda path: arsvd.read_model(path, _model),
        mutate=mutate_safetensors,
    ),
    _FILE(
        name="state-dict",
        seeds=_state_dicts,
        read=lambda path: arsvd.read_model(path, _model),
        mutate=mutate_zip,
        generates=_TORCH,
    ),
    _FILE(name="pt2", seeds=_programs, read=read_exported, mutate=mutate_zip, examples=8, generates=_TORCH),
    _FILE(name="inputs", seeds=_inputs, read=read_inputs, mutate=mutate_npy),
    _FILE(name="labelled", seeds=_labelled, read=read_labelled, mutate=_mutate_labelled),
)
