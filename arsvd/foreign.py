"""Read models that were trained elsewhere, and write them back in the form they came in."""

import os
import pickle
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from arsvd.endings import SAFETENSORS, check_output, ending
from arsvd.exported import InputShape, read_exported, write_exported
from arsvd.serialization import HEADER, load, save

Factory = Callable[[], nn.Module]

_EXAMPLE_ROWS = 3
_SHOWN = 5


def read_model(path: str | os.PathLike[str], factory: Factory | None = None) -> nn.Module:
    """Read a model from a file, without pickle.

    - `.pt2`: a program of `torch.export` with a dynamic batch; its linear operations become `nn.Linear`.
    - `.pt`, `.pth`: a state dict, read by `torch.load(weights_only=True)`, for what the factory makes.
    - anything else: safetensors, either a file that `arsvd.save` wrote or a state dict for the factory.

    Args:
        path: the file.
        factory: makes the dense module that the weights belong to. A file of `arsvd.save` needs it only
            where it holds parts that this library does not know.

    Returns:
        The model in evaluation mode, on the CPU.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, needs pickle, or does not fit the factory's module; a factory is
            missing, or given where none is needed.
        TypeError: the factory makes something that is no module.
    """
    suffix = Path(path).suffix.lower()
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path}")
    if suffix == ".pt2":
        if factory is not None:
            raise ValueError(f"{path} holds its own program: leave the factory out")
        return read_exported(path)
    if suffix in (".pt", ".pth"):
        return _fill(_pickled_state(path), factory, path)
    try:
        with safe_open(path, framework="pt") as file:
            ours = HEADER in (file.metadata() or {})
            state = {} if ours else {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file: {error}") from error
    if not ours:
        return _fill(state, factory, path)
    try:
        return load(path, into=None if factory is None else _make(factory))
    except KeyError as error:  # other files of this library have a header of the same kind
        raise ValueError(f"{path} is not a model that arsvd.save wrote: its header has no {error}") from error


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
        path: the file.
        example: inputs of the model (rows, …), two rows or more: an export needs them. A model that was read
            from a `.pt2` file, in which only the batch is dynamic, needs none.
        metadata: JSON-able values to keep with it.

    Raises:
        ValueError: another ending, or the model cannot be exported.
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


def _pickled_state(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():
            # what follows is a refusal with a message of its own, or tensors
            warnings.filterwarnings("ignore", "Detected pickle protocol")
            content = torch.load(path, weights_only=True, map_location="cpu")
    except (pickle.UnpicklingError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "TorchScript" not in str(error):
            raise ValueError(f"{path} is not a whole file of torch.save: {error}") from error
        raise ValueError(
            f"{path} needs pickle: it holds more than tensors, such as a whole module, and a pickle can run "
            f"any code when it is read. Nothing of it was unpickled. Save the weights alone, "
            f"torch.save(model.state_dict(), …), and give the factory that makes the model; or export it, "
            f"torch.export.save(torch.export.export(…), 'model.pt2')"
        ) from error
    except (EOFError, OSError, ValueError, KeyError) as error:
        raise ValueError(f"{path} is not a whole file of torch.save: {error}") from error
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds a {type(content).__name__}, not a state dict")
    others = [str(key) for key, value in content.items() if not isinstance(value, Tensor)]
    if others or not content:
        raise ValueError(
            f"{path} holds no state dict: its keys {_some(others) or 'are none, it'} hold no tensors. "
            f"Save model.state_dict() alone"
        )
    return {str(key): value for key, value in content.items()}


def _fill(state: dict[str, Tensor], factory: Factory | None, path: str | os.PathLike[str]) -> nn.Module:
    """Load weights into what the factory makes; every name and shape must fit."""
    if factory is None:
        raise ValueError(
            f"{path} holds weights but no architecture (arsvd.save did not write it): "
            f"a factory that makes the model is needed"
        )
    model = _make(factory)
    own = model.state_dict()
    faults = []
    if missing := [name for name in own if name not in state]:
        faults.append(f"the file lacks {_some(missing)}")
    if unexpected := [name for name in state if name not in own]:
        faults.append(f"the model has no {_some(unexpected)}")
    faults.extend(
        f"{name} is {tuple(state[name].shape)} in the file and {tuple(tensor.shape)} in the model"
        for name, tensor in own.items()
        if name in state and tensor.shape != state[name].shape
    )
    if faults:
        raise ValueError(f"{path} does not fit the model that the factory makes: {'; '.join(faults)}")
    model.load_state_dict(state)
    return model.eval()


def _make(factory: Factory) -> nn.Module:
    model = factory()
    if not isinstance(model, nn.Module):
        raise TypeError(f"the factory must make an nn.Module, it made a {type(model).__name__}")
    return model


def _some(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
