"""Arrays from files: every form that people save, taken for what it is or refused in words."""

import io
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import arsvd
from arsvd.files.exported import InputShape
from sweeps.foreign.arrays import fit_inputs, input_dtype, read_inputs, read_labelled

DRAW = np.random.default_rng(0)
IMAGES = DRAW.integers(0, 256, (20, 1, 4, 4), dtype=np.uint8)
ROWS = DRAW.standard_normal((20, 6))


def saved(folder: Path, array: np.ndarray) -> Path:
    np.save(folder / "a.npy", array, allow_pickle=True)
    return folder / "a.npy"


FORMS: dict[str, np.ndarray] = {
    "float16": ROWS.astype(np.float16),
    "float64": ROWS,
    "long double": ROWS.astype(np.longdouble),
    "big-endian": ROWS.astype(">f4"),
    "Fortran order": np.asfortranarray(ROWS.astype(np.float32)),
    "big-endian whole numbers": np.arange(12).reshape(4, 3).astype(">i8"),
    "uint16": np.arange(12).reshape(4, 3).astype(np.uint16) + 60_000,
    "uint32": np.arange(12).reshape(4, 3).astype(np.uint32) + 4_000_000_000,
    "uint64": np.arange(12).reshape(4, 3).astype(np.uint64),
    "truth": ROWS > 0,
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_of_numbers_comes_as_it_is(tmp_path: Path, name: str) -> None:
    array = FORMS[name]
    read = read_inputs(saved(tmp_path, array))
    assert read.shape == array.shape
    assert np.array_equal(read.double().numpy(), array.astype(np.float64))
    assert read.is_floating_point() == (array.dtype.kind == "f")
    np.savez_compressed(tmp_path / "l.npz", inputs=array, labels=np.arange(len(array)) % 3)
    inputs, labels = read_labelled(tmp_path / "l.npz")
    assert torch.equal(inputs, read)
    assert labels.tolist() == [n % 3 for n in range(len(array))]


# name: the array, the model's dtype, what it becomes; None where the values are the same
TAKEN: dict[str, tuple[np.ndarray, torch.dtype, str, Callable[[np.ndarray], np.ndarray] | None]] = {
    "pixels": (IMAGES, torch.float32, "uint8, divided by 255, as float32", lambda a: a / 255),
    "pixels in colour": (
        DRAW.integers(0, 256, (20, 4, 4, 3), dtype=np.uint8),
        torch.float32,
        "divided by 255",
        lambda a: a / 255,
    ),
    "pixels of a program that takes bytes": (IMAGES, torch.uint8, "uint8 taken as uint8", None),
    "bytes that are tokens": (IMAGES[:, 0, 0] % 9, torch.int64, "uint8 taken as int64", None),
    "tokens": (np.arange(12).reshape(4, 3), torch.int64, "int64 taken as int64", None),
    "tokens for int32": (np.arange(12).reshape(4, 3), torch.int32, "int64 taken as int32", None),
    "counts": (np.arange(12).reshape(4, 3), torch.float32, "int64, as they are, as float32", None),
    "truth": (ROWS > 0, torch.float32, "bool, as they are, as float32", None),
    "doubles": (ROWS, torch.float64, "float64, as they are", None),
    "singles for bfloat16": (np.ones((4, 3), np.float32), torch.bfloat16, "as bfloat16", None),
}


@pytest.mark.parametrize("name", TAKEN)
def test_inputs_come_in_the_model_s_dtype_and_it_is_said_how(tmp_path: Path, name: str) -> None:
    array, dtype, words, change = TAKEN[name]
    path = saved(tmp_path, array)
    fitted, said = fit_inputs(read_inputs(path), dtype, path)
    wanted = array if change is None else change(array)
    assert fitted.dtype == dtype
    torch.testing.assert_close(
        fitted.double(), torch.from_numpy(wanted.astype(np.float64)), rtol=1e-6, atol=1e-6
    )
    assert said.startswith(f"{path}: {len(array)} rows of ")
    assert words in said


# name: the array, the model's dtype, the scale, the text
AMBIGUOUS: dict[str, tuple[np.ndarray, torch.dtype, float | None, str]] = {
    "bytes of digits from 0 to 16": (IMAGES % 17, torch.float32, None, "up to 16 .* need not be pixels"),
    "one-hot bytes": (np.eye(9, dtype=np.uint8)[None], torch.float32, None, "up to 1 .* need not be pixels"),
    "a flat table of bytes": (
        IMAGES.reshape(20, 16),
        torch.float32,
        None,
        "--scale 255 if they are, --scale 1",
    ),
    "fractions for a model of tokens": (ROWS, torch.int64, None, "holds float64, and the model takes int64"),
    "a scale for a model of tokens": (np.arange(6)[None], torch.int64, 255.0, "--scale is for fractions"),
    "tokens beyond int32": (np.full((2, 2), 2**40), torch.int32, None, "too large for the model's int32"),
    "numbers that float32 cannot tell apart": (
        np.array([[2**24 + 1, 2**24]]),
        torch.float32,
        None,
        "up to 16,777,217, which the model's float32 cannot tell apart",
    ),
    "values beyond float16": (np.full((2, 2), 1e6), torch.float16, None, "too large for the model's float16"),
    "a scale of 0": (IMAGES, torch.float32, 0.0, "--scale is a number above 0"),
    "a scale below 0": (IMAGES, torch.float32, -1.0, "--scale is a number above 0"),
    "a scale of nan": (IMAGES, torch.float32, float("nan"), "--scale is a number above 0"),
}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_ambiguous_inputs_are_refused(tmp_path: Path, name: str) -> None:
    array, dtype, scale, text = AMBIGUOUS[name]
    path = saved(tmp_path, array)
    with pytest.raises(ValueError, match=text):
        fit_inputs(read_inputs(path), dtype, path, scale)


@pytest.mark.parametrize(("scale", "factor"), [(255.0, 255), (1.0, 1), (16.0, 16)])
def test_a_scale_resolves_the_ambiguity(tmp_path: Path, scale: float, factor: int) -> None:
    path = saved(tmp_path, IMAGES % 17)
    fitted, said = fit_inputs(read_inputs(path), torch.float32, path, scale)
    torch.testing.assert_close(fitted, torch.from_numpy(IMAGES % 17).float() / factor)
    assert ("as they are" if factor == 1 else f"divided by {factor}") in said


def test_the_dtype_that_a_model_takes() -> None:
    whole, single, half = torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2, 3), torch.bfloat16
    text = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(12, 3))
    program = nn.Sequential(InputShape((None, 3), torch.int32), nn.Embedding(9, 4), nn.Linear(4, 3))
    mixed = nn.Sequential(nn.Linear(3, 3, dtype=half), nn.LayerNorm(3))
    assert input_dtype(text, whole) == torch.int64
    assert input_dtype(text, single) == torch.float32
    assert input_dtype(program, single) == torch.int32
    assert input_dtype(mixed, whole) == half
    assert input_dtype(arsvd.MLP([3, 2]).double(), whole) == torch.float64
    assert input_dtype(nn.Sequential(nn.Conv2d(1, 2, 1), nn.Linear(3, 2).double()), single) == torch.float32


class Weird:
    """An object that makes numpy pickle."""


# name: the array, the text
REFUSED: dict[str, tuple[Callable[[], np.ndarray], str]] = {
    "objects": (lambda: np.array([Weird()], dtype=object), "is not an .npy file of plain numbers"),
    "words": (lambda: np.array(["a", "b"]), "is not one array of numbers"),
    "records": (lambda: np.zeros(3, dtype=[("a", "f4")]), "is not one array of numbers"),
    "dates": (lambda: np.zeros(3, dtype="M8[s]"), "is not one array of numbers"),
    "complex": (lambda: np.zeros((3, 2), np.complex64), "holds complex numbers"),
    "no dimension": (lambda: np.float32(3), "holds no rows of inputs"),
    "no rows": (lambda: np.zeros((0, 6)), r"holds no rows of inputs: its shape is \(0, 6\)"),
    "no columns": (lambda: np.zeros((6, 0)), "holds no rows of inputs"),
    "NaN": (lambda: np.full((2, 2), np.nan), "not finite"),
    "infinity": (lambda: np.full((2, 2), np.inf, np.float16), "not finite"),
    "beyond 64 bits": (lambda: np.full((2, 2), 2**63, np.uint64), "beyond 64 bits"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_files_without_inputs_are_refused(tmp_path: Path, name: str) -> None:
    make, text = REFUSED[name]
    with pytest.raises(ValueError, match=text):
        read_inputs(saved(tmp_path, make()))


# name: the labels, the text
LABELS: dict[str, tuple[Any, str]] = {
    "a column": (np.arange(4)[:, None], r"one a row: give labels\[:, 0\]; got int64 of shape \(4, 1\)"),
    "one-hot": (np.eye(4), r"give labels\.argmax\(1\); got float64 of shape \(4, 4\)"),
    "one-hot of bytes": (np.eye(4, dtype=np.uint8), r"give labels\.argmax\(1\)"),
    "one-hot truth": (np.eye(4, dtype=bool), r"give labels\.argmax\(1\)"),
    "whole fractions": (np.arange(4.0), r"one a row: give labels\.astype\(int\)"),
    "fractions": (np.arange(4) + 0.5, "must be whole numbers, one a row; got float64"),
    "NaN": (np.array([0, 1, np.nan, 2]), "some are NaN: leave rows without a class out"),
    "truth": (np.array([True, False, True, False]), r"not true or false: give labels\.astype\(int\)"),
    "several a row": (np.ones((4, 2), int) * 3, r"one a row; got int64 of shape \(4, 2\)"),
    "one for all": (np.int64(3), r"got int64 of shape \(\)"),
    "complex": (np.zeros(4, np.complex64), "holds complex numbers"),
    "words": (np.array(list("abcd")), "not one array of numbers"),
    "fewer": (np.arange(3), "and 3 labels"),
}


@pytest.mark.parametrize("name", LABELS)
def test_labels_are_refused_with_what_to_do(tmp_path: Path, name: str) -> None:
    labels, text = LABELS[name]
    np.savez(tmp_path / "l.npz", inputs=ROWS[:4], labels=labels)
    with pytest.raises(ValueError, match=text):
        read_labelled(tmp_path / "l.npz")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.uint16], ids=str)
def test_safetensors_of_every_dtype(tmp_path: Path, dtype: torch.dtype) -> None:
    values = torch.arange(12).reshape(4, 3).to(dtype)
    save_file({"inputs": values, "labels": torch.arange(4).int()}, tmp_path / "l.bin")
    inputs, labels = read_labelled(tmp_path / "l.bin")
    assert torch.equal(inputs.double(), torch.arange(12).reshape(4, 3).double())
    assert labels.tolist() == [0, 1, 2, 3]


def header(shape: str, descr: str = "'<f4'", data: bytes = bytes(24), version: int = 1) -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    size = len(text).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + size + text + data


# name: the content of an .npy file
LIES: dict[str, bytes] = {
    "10^12 rows": header("(1000000000000, 6)"),
    "more than there is": header("(7,)"),
    "rows below 0": header("(-1, 6)"),
    "sizes without end": header(f"({'9' * 400},)"),
    "a dtype of a gigabyte": header("(1,)", "'V1000000000'"),
    "a shape that is a text": header("'x'"),
    "a header that is nested": header("(" * 5000),
    "a header that is an expression": header("(1).__class__"),
    "a header of 4 GB": b"\x93NUMPY\x02\x00\xff\xff\xff\xff{",
    "a later version": b"\x93NUMPY\x09\x00" + bytes(60),
    "the first bytes alone": b"\x93NUMPY",
    "a dtype that is no text": header("(1,)", "[3]"),
}


@pytest.mark.parametrize("name", LIES)
def test_headers_that_lie(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.npy").write_bytes(LIES[name])
    with zipfile.ZipFile(tmp_path / "l.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inputs.npy", LIES[name])
        archive.writestr("labels.npy", header("(3,)", "'<i8'"))
    began = time.perf_counter()
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"a\.npy"):
        read_inputs(tmp_path / "a.npy")
    with pytest.raises(ValueError, match=r"l\.npz"):
        read_labelled(tmp_path / "l.npz")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50_000_000
    assert time.perf_counter() - began < 5


def test_an_archive_that_unpacks_to_gigabytes_is_not_unpacked(tmp_path: Path) -> None:
    size = 300 << 20
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open("inputs.npy", "w") as file:
            file.write(header(f"({size // 4},)", data=b""))
            for _ in range(300):
                file.write(bytes(1 << 20))
        archive.writestr("labels.npy", header("(3,)", "'<i8'"))
    (tmp_path / "l.npz").write_bytes(whole.getvalue())
    with pytest.raises(ValueError, match=r"inputs\.npy unpacks from 1,\d+,\d+ to 314,\d+,\d+ bytes"):
        read_labelled(tmp_path / "l.npz")


def test_small_archives_may_be_packed_however_well(tmp_path: Path) -> None:
    zeros = np.zeros((1000, 1000), np.float32)
    np.savez_compressed(tmp_path / "l.npz", inputs=zeros, labels=np.zeros(1000, int))
    inputs, _ = read_labelled(tmp_path / "l.npz")
    assert inputs.shape == (1000, 1000)


def test_files_other_than_arrays_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", inputs=ROWS, labels=np.arange(20))
    with pytest.raises(ValueError, match=r"a\.npz is not an \.npy file .*: it is an archive of numpy arrays"):
        read_inputs(tmp_path / "a.npz")
    np.save(tmp_path / "b.npy", ROWS)
    with pytest.raises(ValueError, match=r"b\.npy is not an \.npz .*: it is an array of numpy"):
        read_labelled(tmp_path / "b.npy")
    (tmp_path / "c.npy").write_bytes(b"\x80\x04K\x03.")
    with pytest.raises(
        ValueError, match=r"c\.npy is not an \.npy file of plain numbers: it is a file of torch"
    ):
        read_inputs(tmp_path / "c.npy")
    for read in (read_inputs, read_labelled):
        with pytest.raises(FileNotFoundError, match="there is no file"):
            read(tmp_path)
