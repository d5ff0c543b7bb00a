"""Save and load compressed models: one safetensors file with versioned JSON in its header, no pickle."""

import itertools
import json
import os
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from arsvd.endings import SAFETENSORS, check_output
from arsvd.layers import replace_layer
from arsvd.lowrank import LowRankLinear
from arsvd.mlp import MLP
from arsvd.preprocessing import Normalize

FORMAT_VERSION = 1
HEADER = "arsvd"
Describe = Callable[[Any], dict[str, Any]]
Build = Callable[..., nn.Module]

# The closed registry of what a file may name. Whatever else a model is made of needs `into=`.
_LEAVES: dict[str, tuple[type[nn.Module], Describe, Build]] = {
    "linear": (
        nn.Linear,
        lambda m: {"in_features": m.in_features, "out_features": m.out_features, "bias": m.bias is not None},
        nn.Linear,
    ),
    "low_rank_linear": (
        LowRankLinear,
        lambda m: {
            "in_features": m.in_features,
            "rank": m.rank,
            "out_features": m.out_features,
            "bias": m.bias is not None,
        },
        LowRankLinear,
    ),
    "normalize": (
        Normalize,
        lambda m: {"channels": len(m.mean)},
        lambda channels: Normalize([0.0] * channels, [1.0] * channels),
    ),
    "flatten": (nn.Flatten, lambda m: {"start_dim": m.start_dim, "end_dim": m.end_dim}, nn.Flatten),
    "dropout": (nn.Dropout, lambda m: {"p": m.p}, nn.Dropout),
    "relu": (nn.ReLU, lambda m: {}, nn.ReLU),
    "gelu": (nn.GELU, lambda m: {"approximate": m.approximate}, nn.GELU),
    "tanh": (nn.Tanh, lambda m: {}, nn.Tanh),
    "sigmoid": (nn.Sigmoid, lambda m: {}, nn.Sigmoid),
    "identity": (nn.Identity, lambda m: {}, nn.Identity),
}
_CHAINS: dict[str, type[nn.Sequential]] = {"sequential": nn.Sequential, "mlp": MLP}


def save(model: nn.Module, path: str | os.PathLike[str], metadata: dict[str, Any] | None = None) -> None:
    """Write a model to one file, by atomic replace.

    Args:
        model: any module. One made of the parts that this library knows (linear and low-rank layers, the
            common activations, `nn.Sequential`, `MLP`, `Normalize`) is rebuilt by `load(path)` alone;
            another needs `load(path, into=...)`.
        path: the file, ending in `.safetensors`.
        metadata: JSON-able values to keep with it, such as where the model comes from.

    Raises:
        ValueError: the file's name has another ending, or no file can be written there.
        TypeError: the metadata is not JSON-able.
    """
    check_output(path, (SAFETENSORS,))
    state = model.state_dict()
    tensors: dict[str, Tensor] = {}
    first: dict[tuple[object, ...], str] = {}
    aliases: dict[str, str] = {}
    for name, tensor in state.items():
        # with strides: a square weight and its transposed view begin at one address
        place = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if tensor.numel() and place in first:
            aliases[name] = first[place]  # a module registered twice is stored once
        else:
            first[place] = name
            tensors[name] = tensor.detach().cpu().contiguous().clone()
    header = {
        "version": FORMAT_VERSION,
        "architecture": _describe(model),
        "low_rank": {n: [m.in_features, m.rank, m.out_features] for n, m in _low_rank_layers(model).items()},
        "dtypes": sorted({str(t.dtype) for t in tensors.values()}),
        "aliases": aliases,
        "metadata": metadata or {},
    }
    write_tensors(path, tensors, header)


def load(
    path: str | os.PathLike[str], into: nn.Module | None = None, device: torch.device | str = "cpu"
) -> nn.Module:
    """Read a model that `save` wrote.

    Args:
        path: the file.
        into: a model with the original, dense architecture, for models made of parts that this library
            does not know. It is changed: its compressed layers are replaced and its weights are loaded.
        device: where the model goes.

    Returns:
        The model in evaluation mode.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, is not one of this library's, is of a later version, or does not
            fit `into`.
    """
    header, tensors = read_tensors(path)
    for alias, original in header.get("aliases", {}).items():
        tensors[alias] = tensors[original]
    if into is not None:
        model = into
        _make_low_rank(model, header["low_rank"], tensors, path)
    elif header["architecture"] is None:
        raise ValueError(
            f"{path} holds a model made of parts that only its own code can build: "
            f"pass into=<the original model> to load the weights and ranks into it"
        )
    else:
        model = _build(header["architecture"])
    for name, tensor in itertools.chain(model.named_parameters(), model.named_buffers()):
        if name in tensors:
            tensor.data = tensor.data.to(tensors[name].dtype)  # the file's dtypes win, tensor by tensor
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise ValueError(f"{path} does not fit the model: {error}") from error
    for alias, original in header.get("aliases", {}).items():
        _tie(model, alias, original)
    return model.to(device).eval()


def rebuildable(model: nn.Module) -> bool:
    """Whether `load` rebuilds such a model from its file alone, without `into`."""
    return _describe(model) is not None


def read_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what `save` was given as metadata, without the weights.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or not one of this library's.
    """
    with _open(path) as file:
        metadata: dict[str, Any] = _header(path, file.metadata())["metadata"]
    return metadata


def write_tensors(path: str | os.PathLike[str], tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    """Write tensors and a JSON header to one safetensors file, by atomic replace."""
    text = json.dumps(header, allow_nan=False)
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata={HEADER: text})


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a file to write that takes the place of `path` at the end, or vanishes after an error."""
    target = Path(path)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)  # mkstemp's 0600 would hide the file from other users of a cluster
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read what `write_tensors` wrote: the header and the tensors, on the CPU.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, is not one of this library's, or is of a later version.
    """
    with _open(path) as file:
        header = _header(path, file.metadata())
        return header, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping


def _open(path: str | os.PathLike[str]) -> Any:
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        return safe_open(path, framework="pt")
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file: {error}") from error


def _header(path: str | os.PathLike[str], metadata: dict[str, str] | None) -> dict[str, Any]:
    if not metadata or HEADER not in metadata:
        raise ValueError(
            f"{path} is a safetensors file that this library did not write: its header is missing"
        )
    header: dict[str, Any] = json.loads(metadata[HEADER])
    version = header.get("version") if isinstance(header, dict) else None
    if version != FORMAT_VERSION:
        raise ValueError(f"{path} is of format {version}; this release reads format {FORMAT_VERSION}")
    return header


def _describe(module: nn.Module) -> dict[str, Any] | None:
    """Describe a module in JSON, or return None where a part of it is not in the registry."""
    for kind, chain in _CHAINS.items():
        if type(module) is chain:
            parts = [[name, _describe(child)] for name, child in module._modules.items() if child is not None]
            return None if any(part is None for _, part in parts) else {"kind": kind, "parts": parts}
    for kind, (leaf, arguments, _) in _LEAVES.items():
        if type(module) is leaf:
            return {"kind": kind, **arguments(module)}
    return None


def _build(description: dict[str, Any]) -> nn.Module:
    arguments = dict(description)
    kind = arguments.pop("kind", None)
    if kind in _CHAINS:
        parts = OrderedDict((name, _build(part)) for name, part in arguments["parts"])
        chain = _CHAINS[kind].__new__(_CHAINS[kind])
        nn.Sequential.__init__(chain, parts)  # MLP's own constructor would draw dense layers
        return chain
    if kind in _LEAVES:
        return _LEAVES[kind][2](**arguments)
    raise ValueError(f"the file names a part {kind!r}; known are {sorted([*_CHAINS, *_LEAVES])}")


def _low_rank_layers(model: nn.Module) -> dict[str, LowRankLinear]:
    return {name: module for name, module in model.named_modules() if isinstance(module, LowRankLinear)}


def _tie(model: nn.Module, alias: str, original: str) -> None:
    """Make one parameter of two that were one when the model was saved."""
    (path, name), (source, key) = alias.rpartition(".")[::2], original.rpartition(".")[::2]
    parameters = model.get_submodule(path)._parameters
    if name in parameters:
        parameters[name] = model.get_submodule(source)._parameters[key]


def _make_low_rank(
    model: nn.Module,
    shapes: dict[str, list[int]],
    tensors: dict[str, Tensor],
    path: str | os.PathLike[str],
) -> None:
    modules = dict(model.named_modules())
    for name, (in_features, rank, out_features) in shapes.items():
        old = modules.get(name)
        if not isinstance(old, nn.Linear) or (old.in_features, old.out_features) != (
            in_features,
            out_features,
        ):
            raise ValueError(
                f"{path} has a low-rank layer {name!r} of {in_features} -> {out_features}, "
                f"the model has {old}"
            )
        bias = f"{name}.bias" in tensors
        replace_layer(model, old, LowRankLinear(in_features, rank, out_features, bias))
