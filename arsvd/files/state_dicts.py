"""State dicts of models that were trained elsewhere: found in checkpoints, and filled in."""

import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

Factory = Callable[[], nn.Module]
State = dict[str, Any]  # tensors, and what modules keep as their extra state
Told = Callable[[str], None]
PathLike = str | os.PathLike[str]

_SHOWN = 5
_EXTRA = "_extra_state"
_COUNTER = "num_batches_tracked"  # of batch norms; missing in files of old releases, never read in evaluation


def states_in(content: Any, path: PathLike, told: Told) -> dict[str, State]:
    """Find the state dicts in the content of a file: the whole of it, or entries of a checkpoint.

    Args:
        content: content of the file.
        path: path of the file, for messages.
        told: function that receives a line where the whole is a state dict and entries of it are left out.

    Returns:
        The tensors and extra states by the name of their entry, which is "" for the whole.

    Raises:
        ValueError: there is no state dict, or its tensors are larger than the file.
    """
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds a {type(content).__name__}, not a state dict")
    places = {
        "": content,
        **{k: v for k, v in content.items() if isinstance(v, Mapping) and isinstance(k, str)},
    }
    found = {place: state for place, values in places.items() if (state := _state(values))}
    if not found:
        keys = _some(_shown(content)) or "are none, it"
        raise ValueError(
            f"{path} holds no state dict: its keys {keys} hold no tensors. Save model.state_dict() alone"
        )
    _check_sizes(found.values(), path)
    if list(found) == [""] and len(found[""]) < len(content):
        others = [key for key in content if key not in found[""]]
        told(f"{path}: what holds no tensors was left out: {_some(_shown(others))}")
    return found


def _shown(keys: Iterable[Any]) -> list[str]:
    return [key if isinstance(key, str) else f"of type {type(key).__name__}" for key in keys]


def _state(values: Mapping[Any, Any]) -> State:
    found = {
        key: value
        for key, value in values.items()
        if isinstance(key, str) and (isinstance(value, Tensor) or key.endswith(_EXTRA))
    }
    return found if any(isinstance(value, Tensor) for value in found.values()) else {}


def _check_sizes(states: Iterable[State], path: PathLike) -> None:
    """Refuse tensors that claim more memory than the file has numbers for."""
    tensors = [t for state in states for t in state.values() if isinstance(t, Tensor)]
    sizes = {}
    for tensor in tensors:
        if tensor.layout == torch.strided and not tensor.is_meta and not tensor.is_nested:
            storage = tensor.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
    if sum(sizes.values()) > Path(path).stat().st_size:
        raise ValueError(f"{path} is not a whole file of torch.save: its tensors are larger than the file")


def fill(states: dict[str, State], factory: Factory, path: PathLike, told: Told) -> nn.Module:
    """Load weights into the module that the factory builds; every name and shape must fit.

    Two things are corrected, and told: a single state dict among the entries of a checkpoint is taken, and
    prefixes of names from `DataParallel`, `torch.compile` or a surrounding module are removed. Tensors that
    the model ties need to be in the file only once.

    Args:
        states: state dict of each entry by its name, which is "" for a file that is a state dict itself.
        factory: function that builds the dense module.
        path: path of the file, for messages.
        told: function that receives one line for each thing that was not taken literally.

    Returns:
        The module in evaluation mode.

    Raises:
        ValueError: the weights do not fit, are not plain numbers, or several entries fit equally well.
        TypeError: the factory does not return a module.
    """
    model = make(factory)
    own: State = model.state_dict()
    _check_fillable(own, path)
    place, state = _chosen(states, own, path)
    if place:
        told(f"{path} is a checkpoint: the weights are its entry {place!r}")
    names, words = _fitting_names(state, own)
    if words:
        told(f"{path}: its names were taken {words}")
    state = {names[name]: value for name, value in state.items()}
    faults = _faults(state, own)
    if faults:
        raise ValueError(f"{path} does not fit the model that the factory makes: {'; '.join(faults)}")
    for line in _roundings(state, own):
        told(f"{path}: {line}")
    try:
        model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise ValueError(f"{path} does not fit the model that the factory makes: {error}") from error
    return model.eval()


def make(factory: Factory) -> nn.Module:
    """Call a factory.

    Raises:
        TypeError: the result is not a module.
    """
    model = factory()
    if not isinstance(model, nn.Module):
        raise TypeError(f"the factory must make an nn.Module, it made a {type(model).__name__}")
    return model


def _check_fillable(own: State, path: PathLike) -> None:
    for name, tensor in own.items():
        if isinstance(tensor, UninitializedParameter | UninitializedBuffer):
            words = "has no shape yet: have the factory call the model once, or give the layer its sizes"
        elif not isinstance(tensor, Tensor):
            continue
        elif tensor.is_meta:
            words = "is on the meta device, which holds no numbers: have it make the model on the CPU"
        elif tensor.is_inference():
            words = "was made in inference mode and cannot be changed: have it make the model outside of that"
        else:
            continue
        raise ValueError(f"{path} cannot be loaded: {name} of the model that the factory makes {words}")


def _chosen(states: dict[str, State], own: State, path: PathLike) -> tuple[str, State]:
    if len(states) == 1:
        return next(iter(states.items()))
    fitting = {place: state for place, state in states.items() if not _missing(_renamed(state, own), own)}
    if len(fitting) == 1:
        return next(iter(fitting.items()))
    entries = _some(place or "the file itself" for place in (fitting or states))
    which = "Several fit the model" if fitting else "None of them fits the model"
    raise ValueError(
        f"{path} holds several state dicts: {entries}. {which} that the factory makes: save the one that is "
        f"meant alone"
    )


def _renamed(state: State, own: State) -> State:
    names, _ = _fitting_names(state, own)
    return {names[name]: value for name, value in state.items()}


def _fitting_names(state: State, own: State) -> tuple[dict[str, str], str]:
    """Map each name to the model's, and say how; "" where the names are equal already."""
    plain = {name: name for name in state}
    best, words = plain, ""
    for pattern, how in (
        (r"(?:^|(?<=\.))_orig_mod\.", "without '_orig_mod.', which torch.compile puts there"),
        (r"(?:^|(?<=\.))module\.", "without 'module.', which DataParallel puts there"),
        (r"(?:^|(?<=\.))(?:module|_orig_mod)\.", "without 'module.' and '_orig_mod.'"),
        (
            _first_part(state),
            f"without {_first_part(state)[1:].replace(chr(92), '')!r}, with which all begin",
        ),
    ):
        tried = {name: re.sub(pattern, "", name) for name in state}
        distinct = len(set(tried.values())) == len(tried)
        if distinct and _known(tried, own) > _known(best, own):
            best, words = tried, how
    return best, words


def _first_part(state: State) -> str:
    """Return a pattern of the first part that all names share, or one that matches nothing."""
    parts = {name.partition(".")[0] for name in state if not name.endswith(_EXTRA)}
    return "^" + re.escape(f"{parts.pop()}.") if len(parts) == 1 else "^$"


def _known(names: dict[str, str], own: State) -> int:
    return sum(name in own for name in names.values())


def _missing(state: State, own: State) -> list[str]:
    """List what a state dict lacks; a tensor tied to one that is present does not count as lacking."""
    there = {_place(own[name]) for name in state if name in own}
    return [
        name
        for name, value in own.items()
        if name not in state and not name.endswith(_COUNTER) and _place(value) not in there
    ]


def _place(value: Any) -> object:
    """Return a key that is equal for two entries of a state dict exactly where they are one tensor."""
    if not isinstance(value, Tensor) or not value.numel():
        return object()
    return value.data_ptr(), value.shape, value.stride(), value.dtype


def _faults(state: State, own: State) -> list[str]:
    faults = []
    if missing := _missing(state, own):
        faults.append(f"the file lacks {_some(missing)}")
    if unexpected := [name for name in state if name not in own]:
        faults.append(f"the model has no {_some(unexpected)}")
    tied: dict[object, str] = {}
    for name, tensor in own.items():
        if name not in state or not isinstance(tensor, Tensor):
            continue
        if fault := _misfit(state[name], tensor):
            faults.append(f"{name} {fault}")
            continue
        first = tied.setdefault(_place(tensor), name)
        if first != name and not torch.equal(state[name].float(), state[first].float()):
            faults.append(f"{first} and {name} are one tensor in the model, and differ in the file")
    return faults


def _misfit(value: Any, wanted: Tensor) -> str:
    """Say why a value of a file cannot replace a tensor; "" where it can."""
    if not isinstance(value, Tensor):
        return f"is a {type(value).__name__} in the file"
    if value.is_meta:
        return "is a meta tensor in the file, which holds no numbers"
    if value.is_quantized:
        return "is quantised in the file: save its dequantize()"
    if value.layout != torch.strided or value.is_nested:
        return "is sparse in the file: save its to_dense()"
    if value.shape != wanted.shape:
        return f"is {tuple(value.shape)} in the file and {tuple(wanted.shape)} in the model"
    if _sort(value.dtype) != _sort(wanted.dtype):
        return f"holds {_named(value.dtype)} in the file and {_named(wanted.dtype)} in the model"
    return ""


def _sort(dtype: torch.dtype) -> str:
    """Return the kind of numbers of a dtype: casts between kinds lose their meaning."""
    if dtype.is_complex:
        return "complex"
    if dtype.is_floating_point:
        return "floating" if dtype.itemsize > 1 else _named(dtype)  # 8 bits need a scale beside them
    return "bool" if dtype == torch.bool else "whole"


def _roundings(state: State, own: State) -> list[str]:
    changes = {
        (value.dtype, own[name].dtype)
        for name, value in state.items()
        if isinstance(value, Tensor) and value.is_floating_point() and value.dtype != own[name].dtype
    }
    return [
        f"weights of {_named(old)} were taken as the {_named(new)} of the model"
        for old, new in sorted(changes, key=str)
    ]


def _named(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
