"""Write a model as a `.pt2` file."""

import io
import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.utils._pytree import tree_map_only

from arsvd.files.serialization import replacing
from arsvd.modes import evaluation_mode, unwrapped
from arsvd.numbers.coded import float_form

METADATA = "arsvd.json"
_ROUNDINGS = 100.0
# of what torch notes about a node, what a reader needs; the rest is lines and paths of the exporting machine
_NOTES = ("val", "unbacked_bindings", "nn_module_stack")
_ANY_MODULE = "torch.nn.modules.module.Module"


def write_exported(
    model: nn.Module,
    path: str | os.PathLike[str],
    example: Tensor,
    metadata: dict[str, Any] | None = None,
) -> None:
    """Export a model with a dynamic batch and write it, by atomic replace.

    Args:
        model: any module that `export` takes.
        path: the file, ending in `.pt2`.
        example: inputs (rows, …), two rows or more; nothing of them gets into the file.
        metadata: JSON-able values to keep in the archive, as `arsvd.json`.

    Raises:
        ValueError: another ending, or a model that `export` refuses.
    """
    if Path(path).suffix.lower() != ".pt2":
        raise ValueError(f"a program of torch.export is written as .pt2, not as {Path(path).name!r}")
    content = program_bytes(export(model, example), {METADATA: json.dumps(metadata or {}, allow_nan=False)})
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def export(model: nn.Module, example: Tensor) -> ExportedProgram:
    """Export a model with a dynamic batch, and compare the program with it.

    Args:
        model: any module that maps one tensor (batch, …) to one tensor; it is exported in evaluation mode,
            and without what `torch.compile` and data parallelism put around it.
        example: inputs (rows, …), two rows or more: torch takes a batch of 1 for a constant.

    Returns:
        The program, for `program_bytes`.

    Raises:
        ValueError: fewer than two rows, torch cannot export the model with a dynamic batch, or the program
            computes something else.
    """
    if example.ndim == 0 or len(example) < 2:
        raise ValueError(
            f"an export needs example inputs of 2 rows or more, got a tensor of shape {tuple(example.shape)}"
        )
    with unwrapped(model) as plain, evaluation_mode(plain), torch.no_grad():
        floats = float_form(plain)  # a program holds the weights that codes stand for
        try:
            program = torch.export.export(
                floats, (torch.zeros_like(example),), dynamic_shapes=({0: torch.export.Dim("batch")},)
            )
        except Exception as error:  # torch.export raises errors of many kinds
            raise ValueError(f"the model cannot be exported with a dynamic batch: {error}") from error
        check_program(program, plain, example)
    return program


def program_bytes(program: ExportedProgram, extra_files: dict[str, str] | None = None) -> bytes:
    """Write a program with its weights, and nothing of the data and the machine that it was exported with.

    Args:
        program: any program; its notes and example inputs are changed: zeros, which take no room, replace the
            example inputs, and weights that are views of something larger are copied.
        extra_files: name to text, to keep in the archive.

    Returns:
        The archive.
    """
    for module in program.graph_module.modules():
        if isinstance(module, fx.GraphModule):
            module.meta.pop("custom", None)
            for node in module.graph.nodes:
                node.meta = {key: node.meta[key] for key in _NOTES if key in node.meta}
                if stack := node.meta.get("nn_module_stack"):
                    node.meta["nn_module_stack"] = {
                        key: (path, _ANY_MODULE) for key, (path, _) in stack.items()
                    }
    program.example_inputs = tree_map_only(
        Tensor,
        lambda t: torch.zeros((), dtype=t.dtype, device=t.device).expand(t.shape),
        program.example_inputs,
    )
    for tensors in (program.state_dict, program.constants):
        _own_storages(tensors)
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files=extra_files)
    return buffer.getvalue()


def _own_storages(tensors: dict[str, Any]) -> None:
    """Copy tensors whose storage holds more than their values, which torch would write as well."""
    copies: dict[tuple[object, ...], Tensor] = {}
    for name, tensor in tensors.items():
        if type(tensor) not in (Tensor, nn.Parameter):
            continue
        if tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size():
            continue
        view = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        copy = copies.setdefault(view, tensor.detach().clone())
        is_parameter = isinstance(tensor, nn.Parameter)
        tensors[name] = nn.Parameter(copy, tensor.requires_grad) if is_parameter else copy


def check_program(program: ExportedProgram, model: nn.Module, example: Tensor) -> None:
    """Compare a program with its model, at a batch of one row and at twice the example's.

    Args:
        program: an export of the model.
        model: the model, in evaluation mode.
        example: inputs (rows, …).

    Raises:
        ValueError: the two differ by more than rounding.
    """
    exported = program.module()
    for inputs in (example[:1], torch.cat([example, example])):
        with torch.no_grad():
            got, wanted = exported(inputs), model(inputs)
        tolerance = _ROUNDINGS * torch.finfo(wanted.dtype).eps
        if not torch.allclose(got, wanted, rtol=tolerance, atol=tolerance * float(wanted.abs().max())):
            worst = float((got - wanted).abs().max())
            raise ValueError(f"the exported program differs by {worst:.2g} at a batch of {len(wanted)}")
