"""Read models that were trained elsewhere, and write them back in the form they came in."""

import os
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor, nn

from arsvd.files.endings import EXPORTED, SAFETENSORS, check_output, ending
from arsvd.files.exported import InputShape, read_exported, write_exported
from arsvd.files.pickled import pickled_content
from arsvd.files.recognition import TORCH, FileKind, recognise
from arsvd.files.serialization import HEADER, load, save
from arsvd.files.state_dicts import Factory, State, Told, fill, make, states_in

_EXAMPLE_ROWS = 3
_WEIGHTS_ENDINGS = (".pt", ".pth")


def read_model(
    path: str | os.PathLike[str], factory: Factory | None = None, told: Told = lambda _: None
) -> nn.Module:
    """Read a model from a file, without pickle. The content decides what the file is, not its ending.

    - a program of `torch.export` (`.pt2`) with a dynamic batch; its linear operations become `nn.Linear`.
    - a file of `torch.save` with a state dict, or a checkpoint with one, for what the factory makes.
    - safetensors, either a file that `arsvd.save` wrote or a state dict for the factory.

    Args:
        path: file to read.
        factory: function that builds the dense module that the weights belong to. A file of `arsvd.save`
            needs it only where it holds parts that this library does not know.
        told: function that receives a line of text for each thing that was not taken literally, such as
            prefixes of names.

    Returns:
        The model in evaluation mode, on the CPU.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, of an unsupported kind, needs pickle, or does not fit the factory's
            module; a factory is missing, or given where none is needed.
        TypeError: the factory does not return a module.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path}")
    kind = recognise(path) or _by_ending(path)
    if kind.reader is None:
        raise ValueError(f"{path} is {kind.words}")
    if kind.reader == EXPORTED:
        if factory is not None:
            raise ValueError(f"{path} holds its own program: leave the factory out")
        return read_exported(path)
    if kind.reader == TORCH:
        states = states_in(pickled_content(path, kind.zipped), path, told)
    else:
        ours, state = _plain_safetensors(path)
        if ours:
            return load(path, into=None if factory is None else make(factory))
        states = {"": state}
    if factory is None:
        raise ValueError(
            f"{path} holds weights but no architecture (arsvd.save did not write it): "
            f"a factory that makes the model is needed"
        )
    return fill(states, factory, path, told)


def _by_ending(path: str | os.PathLike[str]) -> FileKind:
    """Return what a file claims to be by its ending, so that its reader says what is wrong with it."""
    if ending(path) == EXPORTED:
        return FileKind(EXPORTED, "")
    return FileKind(TORCH if ending(path) in _WEIGHTS_ENDINGS else SAFETENSORS, "")


def _plain_safetensors(path: str | os.PathLike[str]) -> tuple[bool, State]:
    """Tell whether `arsvd.save` wrote a file, and read the tensors of another one."""
    try:
        with safe_open(path, framework="pt") as file:
            if HEADER in (file.metadata() or {}):
                return True, {}
            return False, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:  # safetensors' own, and torch's on dtypes that it does not know
        raise ValueError(f"{path} is not a whole safetensors file: {error}") from error


def write_model(
    model: nn.Module,
    path: str | os.PathLike[str],
    example: Tensor | None = None,
    metadata: dict[str, Any] | None = None,
) -> None:
    """Write a model to a file, by atomic replace; the ending chooses the form.

    - `.safetensors`: `arsvd.save`. A model that is not made of known parts is read back by
      `arsvd.load(path, into=<the dense model>)`, or by `read_model(path, factory)`.
    - `.pt2`: a program of `torch.export` with a dynamic batch, for which nobody needs this library.

    Args:
        model: any module.
        path: file to write.
        example: inputs of the model (rows, …), two rows or more: an export needs them. A model that was read
            from a `.pt2` file, in which only the batch is dynamic, needs none.
        metadata: JSON-able values to keep with it.

    Raises:
        ValueError: the ending is unknown, nothing can be written to that place, or the model cannot be
            exported.
    """
    check_output(path)
    if ending(path) == SAFETENSORS:
        save(model, path, metadata)
        return
    example = _own_example(model) if example is None else example
    if example is None:
        raise ValueError(f"to write {path}, example inputs of the model are needed, two rows or more")
    write_exported(model, path, example, metadata)


def _own_example(model: nn.Module) -> Tensor | None:
    checks = [module for module in model.modules() if isinstance(module, InputShape)]
    return checks[0].example(_EXAMPLE_ROWS) if checks else None
