"""Write a model as a `.pt2` file."""

import io
import json
import os
from typing import Any

import torch
from torch import Tensor, nn

from arsvd.modes import evaluation_mode
from arsvd.serialization import replacing

METADATA = "arsvd.json"
_ROUNDINGS = 100.0


def write_exported(
    model: nn.Module,
    path: str | os.PathLike[str],
    example: Tensor,
    metadata: dict[str, Any] | None = None,
) -> None:
    """Export a model with a dynamic batch and write it, by atomic replace.

    The program is compared with the model at a batch of one row and at twice the example's before anything
    is written.

    Args:
        model: maps one tensor (batch, …) to one tensor; it is exported in evaluation mode.
        path: the file, ending in `.pt2`.
        example: inputs (rows, …), two rows or more: torch takes a batch of 1 for a constant.
        metadata: JSON-able values to keep in the archive, as `arsvd.json`.

    Raises:
        ValueError: fewer than two rows, or torch cannot export the model with a dynamic batch.
    """
    if example.ndim == 0 or len(example) < 2:
        raise ValueError(
            f"an export needs example inputs of 2 rows or more, got a tensor of shape {tuple(example.shape)}"
        )
    with evaluation_mode(model), torch.no_grad():
        try:
            program = torch.export.export(model, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
        except Exception as error:  # torch.export raises errors of many kinds
            raise ValueError(f"the model cannot be exported with a dynamic batch: {error}") from error
        exported = program.module()
        for inputs in (example[:1], torch.cat([example, example])):
            _compare(exported(inputs), model(inputs))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of this machine
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={METADATA: json.dumps(metadata or {}, allow_nan=False)})
    with replacing(path) as temporary:
        temporary.write_bytes(buffer.getvalue())


def _compare(got: Tensor, wanted: Tensor) -> None:
    tolerance = _ROUNDINGS * torch.finfo(wanted.dtype).eps
    if not torch.allclose(got, wanted, rtol=tolerance, atol=tolerance * float(wanted.abs().max())):
        worst = float((got - wanted).abs().max())
        raise ValueError(f"the exported program differs by {worst:.2g} at a batch of {len(wanted)}")
