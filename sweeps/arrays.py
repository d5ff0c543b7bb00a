"""Read arrays of inputs and labels from files, without pickle."""

from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file
from torch import Tensor

_LABELLED = ("inputs", "labels")


def read_inputs(path: Path) -> Tensor:
    """Read rows of inputs from an .npy file, as float32; bytes are read as pixels and scaled to [0, 1].

    Raises:
        ValueError: the file is no array of numbers, or holds values that are not finite.
    """
    try:
        values = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"{path} is not an .npy file of plain numbers: {error}") from error
    if not isinstance(values, np.ndarray):
        raise ValueError(f"{path} is not one array of numbers")
    return _inputs(values, path)


def read_labelled(path: Path) -> tuple[Tensor, Tensor]:
    """Read the arrays `inputs` and `labels` from an .npz or a .safetensors file.

    Returns:
        Inputs (rows, …) float32, bytes scaled to [0, 1], and labels (rows,) int64.

    Raises:
        ValueError: the file or one of its arrays cannot be used.
    """
    try:
        if path.suffix.lower() == ".safetensors":
            arrays = load_file(path)
        else:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in _LABELLED if name in file}
    # a plain .npy array is no context manager, which is a TypeError
    except (ValueError, EOFError, OSError, TypeError, KeyError, SafetensorError) as error:
        raise ValueError(f"{path} is not an .npz or .safetensors file of plain numbers: {error}") from error
    missing = [name for name in _LABELLED if name not in arrays]
    if missing:
        raise ValueError(f"{path} must hold the arrays inputs and labels; it lacks {' and '.join(missing)}")
    inputs, labels = _inputs(arrays["inputs"], path), arrays["labels"]
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise ValueError(
            f"the labels in {path} must be whole numbers, one a row, "
            f"got {labels.dtype} of shape {labels.shape}"
        )
    if inputs.ndim == 0 or len(inputs) != len(labels):
        raise ValueError(f"{path} holds inputs of shape {tuple(inputs.shape)} and {len(labels)} labels")
    return inputs, torch.from_numpy(labels.astype(np.int64))


def _inputs(values: np.ndarray, path: Path) -> Tensor:
    if values.dtype.kind not in "fiub":
        raise ValueError(f"{path} is not one array of numbers")
    if not np.isfinite(values).all():
        raise ValueError(f"{path} holds values that are not finite")
    scale = 255 if values.dtype == np.uint8 else 1
    return torch.from_numpy(values.astype(np.float32)) / scale
