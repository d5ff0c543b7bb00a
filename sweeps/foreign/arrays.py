"""Read arrays of inputs and labels from files, without pickle, and fit them to a model."""

import math
import warnings
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor, nn

from arsvd.files.endings import SAFETENSORS
from arsvd.files.exported import InputShape
from arsvd.files.recognition import recognise

_LABELLED = ("inputs", "labels")
_NPY, _MOST_HEADER = b"\x93NUMPY", 1 << 16
# The most that an archive may unpack to: a number of bytes, or a multiple of its size.
_UNPACKED, _TIMES = 256 << 20, 50
_PIXELS = 255
_BRIGHT = 128  # images stored as bytes reach at least this somewhere
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_WHOLE = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool)
_WIDER = {torch.uint16: torch.int32, torch.uint32: torch.int64}  # torch supports few operations on these
_EXACT = 1 << 24  # float32 represents whole numbers exactly up to here


def read_inputs(path: Path) -> Tensor:
    """Read rows of inputs from an .npy file.

    Returns:
        Inputs (rows, …) as the file holds them: fractions, whole numbers or truth values.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not an array of numbers, has no rows, or holds values that are not finite.
    """
    _check_file(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values = _mapped(path)
    except Exception as error:  # numpy evaluates the header, and raises whatever that raises
        raise ValueError(f"{path} is not an .npy file of plain numbers: {error}") from error
    if values is None:
        kind = recognise(path)
        raise ValueError(
            f"{path} is not an .npy file of plain numbers{f': it is {kind.words}' if kind else ''}"
        )
    return _checked(_tensor(values, path), path)


def read_labelled(path: Path) -> tuple[Tensor, Tensor]:
    """Read the arrays `inputs` and `labels` from an .npz or a .safetensors file.

    Returns:
        Inputs (rows, …) as the file holds them, and labels (rows,) int64.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file or one of its arrays cannot be used.
    """
    _check_file(path)
    kind = recognise(path)
    if kind is None or not (kind.zipped or kind.reader == SAFETENSORS):
        words = f": it is {kind.words}" if kind else ""
        raise ValueError(f"{path} is not an .npz or .safetensors file of plain numbers{words}")
    arrays = _unpacked(path) if kind.zipped else _safetensors(path)
    missing = [name for name in _LABELLED if name not in arrays]
    if missing:
        raise ValueError(f"{path} must hold the arrays inputs and labels; it lacks {' and '.join(missing)}")
    inputs, labels = _checked(arrays["inputs"], path), _labels(arrays["labels"], path)
    if len(inputs) != len(labels):
        raise ValueError(f"{path} holds inputs of shape {tuple(inputs.shape)} and {len(labels)} labels")
    return inputs, labels


def input_dtype(network: nn.Module, inputs: Tensor) -> torch.dtype:
    """Return the dtype in which a model takes inputs.

    A program of torch.export states it. Otherwise whole numbers stay whole where the first layer is an
    embedding, and elsewhere the dtype is that of the first weights.

    Args:
        network: model that takes the inputs.
        inputs: inputs as a file holds them.
    """
    leaves = [module for module in network.modules() if next(module.children(), None) is None]
    for module in leaves:
        if isinstance(module, InputShape):
            return module.dtype
    first = next((m for m in leaves if next(m.parameters(), None) is not None), None)
    if isinstance(first, nn.Embedding | nn.EmbeddingBag) and not inputs.is_floating_point():
        return torch.int64
    weights = [p for module in (*leaves, network) for p in module.parameters() if p.is_floating_point()]
    return weights[0].dtype if weights else torch.float32


def fit_inputs(
    inputs: Tensor, dtype: torch.dtype, path: Path, scale: float | None = None
) -> tuple[Tensor, str]:
    """Bring inputs into the dtype that a model takes, and say how they were interpreted.

    Args:
        inputs: inputs (rows, …) as the file holds them.
        dtype: dtype that the model takes.
        path: path of their file, for messages.
        scale: number that they are divided by; 1 takes them as they are. Where None, bytes that can only be
            pixels are divided by 255, and other bytes are refused if the model takes fractions.

    Returns:
        The inputs, and a line of text.

    Raises:
        ValueError: the inputs cannot be converted without a loss, or the meaning of bytes is not known.
    """
    held = _named(inputs.dtype)
    what = f"{path}: {len(inputs):,} rows of {tuple(inputs.shape[1:])}, {held}"
    if not dtype.is_floating_point:
        return _fit_whole(inputs, dtype, path, scale), f"{what} taken as {_named(dtype)}"
    if scale is not None and not (math.isfinite(scale) and scale > 0):
        raise ValueError(f"--scale is a number above 0, such as 255, got {scale}")
    if scale is None:
        scale = _PIXELS if inputs.dtype == torch.uint8 else 1
        if inputs.dtype == torch.uint8:
            _check_pixels(inputs, path)
    largest = max(int(inputs.max()), -int(inputs.min())) if inputs.dtype in _WHOLE else 0
    if largest > _EXACT and dtype != torch.float64:
        raise ValueError(
            f"{path} holds whole numbers up to {largest:,}, which the model's {_named(dtype)} cannot tell "
            f"apart: such numbers are names and no measurements, or need a scale of their own"
        )
    single = inputs if inputs.is_floating_point() else inputs.float()
    fitted = (single if scale == 1 else single.float() / scale).to(dtype)
    if not bool(torch.isfinite(fitted).all()):
        raise ValueError(f"{path} holds values that are too large for the model's {_named(dtype)}")
    how = "as they are" if scale == 1 else f"divided by {scale:g}"
    return fitted, f"{what}, {how}" + ("" if inputs.dtype == dtype else f", as {_named(dtype)}")


def _fit_whole(inputs: Tensor, dtype: torch.dtype, path: Path, scale: float | None) -> Tensor:
    if inputs.is_floating_point():
        raise ValueError(
            f"{path} holds {_named(inputs.dtype)}, and the model takes {_named(dtype)}: save whole numbers"
        )
    if scale not in (None, 1):
        raise ValueError(f"--scale is for fractions, and the model takes {_named(dtype)}")
    fitted = inputs.to(dtype)
    if not torch.equal(fitted.to(inputs.dtype), inputs):
        raise ValueError(f"{path} holds values that are too large for the model's {_named(dtype)}")
    return fitted


def _check_pixels(inputs: Tensor, path: Path) -> None:
    """Refuse bytes that may be labels, tokens, or pixels of another range."""
    largest = int(inputs.max())
    if inputs.ndim < 3 or largest < _BRIGHT:
        raise ValueError(
            f"{path} holds bytes up to {largest} of shape {tuple(inputs.shape)}, which need not be pixels: "
            f"give --scale 255 if they are, --scale 1 to take them as they are, or save them as float32"
        )


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")


def _mapped(path: Path) -> np.ndarray | None:
    """Map the array of an .npy file, which then cannot be larger than the file; None where it is not one."""
    with path.open("rb") as file:
        if file.read(len(_NPY)) != _NPY:
            return None
        file.seek(0)
        _check_header(file)
    values: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    return values


def _check_header(file: IO[bytes]) -> None:
    """Refuse a header of gigabytes, for which numpy would take the memory; the file is rewound."""
    head = file.read(12)
    length = int.from_bytes(head[8:10] if head[6:7] == b"\x01" else head[8:12], "little")
    if length > _MOST_HEADER:
        raise ValueError(f"its header has {length:,} bytes, more than any array needs")
    file.seek(0)


def _unpacked(path: Path) -> dict[str, Tensor]:
    """Read the arrays of an .npz file; their sizes are known before anything is unpacked."""
    found = {}
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            for name in _LABELLED:
                if f"{name}.npy" in names:
                    found[name] = _member(archive, f"{name}.npy", path)
    except Exception as error:  # zipfile, its decompressors and numpy raise many kinds
        raise ValueError(f"{path} is not an .npz or .safetensors file of plain numbers: {error}") from error
    return {name: _tensor(values, path) for name, values in found.items()}


def _member(archive: zipfile.ZipFile, name: str, path: Path) -> np.ndarray:
    info = archive.getinfo(name)
    packed = min(info.compress_size, path.stat().st_size)
    if info.file_size > max(_UNPACKED, _TIMES * packed):
        raise ValueError(
            f"{name} unpacks from {packed:,} to {info.file_size:,} bytes; np.savez saves it without packing"
        )
    with archive.open(info) as file:
        _check_header(file)
        shape, fortran, dtype = _npy_header(file)
        if dtype.hasobject:
            raise ValueError(f"{name} holds Python objects")
        if math.prod(shape) * dtype.itemsize != info.file_size - file.tell():
            raise ValueError(f"{name} says that its shape is {shape}, which is not its size")
        return np.frombuffer(file.read(), dtype).reshape(shape, order="F" if fortran else "C")


def _npy_header(file: IO[bytes]) -> Any:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    return np.lib.format.read_array_header_2_0(file)


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            found = {name: file.get_tensor(name) for name in _LABELLED if name in file.keys()}  # noqa: SIM118
            return {
                name: tensor.to(_WIDER.get(tensor.dtype, tensor.dtype), copy=True)
                for name, tensor in found.items()
            }
    except Exception as error:  # safetensors' own, and torch's on what it has no dtype for
        raise ValueError(f"{path} is not an .npz or .safetensors file of plain numbers: {error}") from error


def _tensor(values: np.ndarray, path: Path) -> Tensor:
    """Copy an array of numbers, whatever its byte order and layout, into a tensor."""
    kind, size = values.dtype.kind, values.dtype.itemsize
    if kind == "c":
        raise ValueError(f"{path} holds complex numbers; give their parts as features of their own")
    if kind not in "fiub":
        raise ValueError(f"{path} is not one array of numbers: it holds {values.dtype}")
    wide = {("f", 16): np.float64, ("u", 2): np.int32, ("u", 4): np.int64, ("u", 8): np.int64}
    if kind == "u" and size == 8 and values.size and int(values.max()) > np.iinfo(np.int64).max:
        raise ValueError(f"{path} holds whole numbers beyond 64 bits with a sign")
    dtype = wide.get((kind, size), values.dtype.newbyteorder("="))
    return torch.from_numpy(np.array(values, dtype=dtype, order="C"))


def _checked(inputs: Tensor, path: Path) -> Tensor:
    if inputs.dtype not in (*_FLOATS, *_WHOLE):
        raise ValueError(f"{path} is not one array of numbers: it holds {_named(inputs.dtype)}")
    if inputs.ndim == 0 or inputs.numel() == 0:
        raise ValueError(f"{path} holds no rows of inputs: its shape is {tuple(inputs.shape)}")
    if inputs.is_floating_point() and not bool(torch.isfinite(inputs).all()):
        raise ValueError(f"{path} holds values that are not finite")
    return inputs


def _labels(labels: Tensor, path: Path) -> Tensor:
    """Return labels (rows,) int64, or say how to make them from what is there."""
    advice = "one a row"
    if labels.ndim == 2 and labels.shape[1] == 1:
        advice = "one a row: give labels[:, 0]"
    elif labels.ndim == 2 and bool(((labels == 0) | (labels == 1)).all() & (labels.sum(1) == 1).all()):
        advice = "one a row, and not one column a class: give labels.argmax(1)"
    elif labels.is_floating_point() and bool(labels.isnan().any()):
        advice = "one a row, and some are NaN: leave rows without a class out"
    elif labels.dtype == torch.bool:
        advice = "one a row, and not true or false: give labels.astype(int)"
    elif labels.is_floating_point() and bool((labels == labels.round()).all()):
        advice = "one a row: give labels.astype(int)"
    if labels.dtype not in _WHOLE or labels.dtype == torch.bool or labels.ndim != 1:
        raise ValueError(
            f"the labels in {path} must be whole numbers, {advice}; "
            f"got {_named(labels.dtype)} of shape {tuple(labels.shape)}"
        )
    return labels.long()


def _named(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
