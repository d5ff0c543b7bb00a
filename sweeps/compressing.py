"""Compress a saved model from a file into a file."""

from pathlib import Path

import numpy as np
import torch

import arsvd
from arsvd import Plan, RankRule


def compress_file(
    model: Path,
    output: Path,
    *,
    energy: float | None = None,
    max_params: int | None = None,
    calibration: Path | None = None,
) -> Plan:
    """Read a model, compress it, write it.

    Args:
        model: a file that `arsvd.save` wrote.
        output: the file to write.
        energy: the share of each layer's energy to keep, in (0, 1], or
        max_params: the most numbers that the model may store.
        calibration: an .npy file with inputs of the model, rows first; it chooses the activation basis.

    Returns:
        The plan that was carried out.

    Raises:
        ValueError: not exactly one target is given, a file cannot be used, or no plan reaches the target.
    """
    if (energy is None) == (max_params is None):
        raise ValueError("give one target: --energy or --max-params")
    rule: RankRule = arsvd.Budget(params=max_params) if energy is None else arsvd.Energy(energy)
    if not output.absolute().parent.is_dir():
        raise ValueError(f"the folder of {output} does not exist")
    try:
        network = arsvd.load(model)
    except KeyError as error:  # a member's weights, of the same format
        raise ValueError(
            f"{model} is not a model that arsvd.save wrote: its header has no {error}"
        ) from error
    inputs = None if calibration is None else read_inputs(calibration)
    spectra = arsvd.spectra(network, calibration=inputs)
    plan = arsvd.plan(spectra, rule)
    arsvd.save(arsvd.compress(network, spectra, plan), output, {"plan": plan.to_dict()})
    return plan


def read_inputs(path: Path) -> torch.Tensor:
    """Read rows of inputs from an .npy file, as float32; bytes are read as pixels and scaled to [0, 1].

    Raises:
        ValueError: the file is no array of numbers, or holds values that are not finite.
    """
    try:
        values = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"{path} is not an .npy file of plain numbers: {error}") from error
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiub":
        raise ValueError(f"{path} is not one array of numbers")
    if not np.isfinite(values).all():
        raise ValueError(f"{path} holds values that are not finite")
    scale = 255 if values.dtype == np.uint8 else 1
    return torch.from_numpy(values.astype(np.float32)) / scale
