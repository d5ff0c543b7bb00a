"""The parts that a saved model may consist of: described in JSON, and built from such a description."""

import os
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from arsvd.calls import has_extras
from arsvd.formats import FORMATS
from arsvd.leaves import Leaf
from arsvd.mlp import MLP
from arsvd.numbers.coded import Coded
from arsvd.preprocessing import Normalize
from arsvd.sites import SITES

# Files may come from strangers. Models of this library nest a few levels, with about ten parts per level.
_DEEPEST, _MOST_PARTS = 50, 10_000
CODED = "coded"
_WIDEST = 10_000  # largest number in the windows of a convolution
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_WHOLE = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def _normalize(channels: int) -> Normalize:
    return Normalize([0.0] * channels, [1.0] * channels)


_POOLING = {
    "kernel_size": int,
    "stride": int,
    "padding": int,
    "dilation": int,
    "return_indices": bool,
    "ceil_mode": bool,
}
_OTHERS: dict[str, Leaf] = {
    "normalize": Leaf(Normalize, {"channels": int}, _normalize, lambda part: {"channels": len(part.mean)}),
    "flatten": Leaf(nn.Flatten, {"start_dim": int, "end_dim": int}, sized=False),
    "max_pool2d": Leaf(nn.MaxPool2d, _POOLING, sized=False),
    "dropout": Leaf(nn.Dropout, {"p": float}),
    "relu": Leaf(nn.ReLU, {}),
    "gelu": Leaf(nn.GELU, {"approximate": str}),
    "tanh": Leaf(nn.Tanh, {}),
    "sigmoid": Leaf(nn.Sigmoid, {}),
    "identity": Leaf(nn.Identity, {}),
}


def _leaves() -> dict[str, Leaf]:
    """Return the closed registry of the parts that a file may name; models with other parts need `into=`."""
    listed = [site.leaves() for _, site in SITES.items()] + [format.leaves() for _, format in FORMATS.items()]
    return {**{name: leaf for leaves in listed for name, leaf in leaves.items()}, **_OTHERS}


_CHAINS: dict[str, type[nn.Sequential]] = {"sequential": nn.Sequential, "mlp": MLP}


def describe(module: nn.Module) -> dict[str, Any] | None:
    """Describe a module in JSON; return None where a part is not in the registry or has hooks."""
    if has_extras(module):
        return None
    for kind, chain in _CHAINS.items():
        if type(module) is chain:
            parts = [[name, describe(child)] for name, child in module._modules.items() if child is not None]
            return None if any(part is None for _, part in parts) else {"kind": kind, "parts": parts}
    if type(module) is Coded:
        layer, dtype = describe(module.layer), str(module.weight.dtype).removeprefix("torch.")
        return (
            None
            if layer is None
            else {"kind": CODED, "layer": layer, "offset": module.offset, "dtype": dtype}
        )
    for kind, leaf in _leaves().items():
        if type(module) is leaf.module:
            values: dict[str, object] = {"bias": getattr(module, "bias", None) is not None}
            values |= {} if leaf.describe is None else leaf.describe(module)
            found = {name: values[name] if name in values else getattr(module, name) for name in leaf.options}
            return {"kind": kind, **found} if _fits(leaf, found) else None
    return None


def build(description: Any, tensors: dict[str, Tensor], path: str | os.PathLike[str]) -> nn.Module:
    """Build a module and give it its tensors, without memory beyond theirs.

    Args:
        description: description of the module, as `describe` returns it; read from a file, it may be
            anything.
        tensors: values of all parameters and buffers of the module, by name; they keep their dtypes.
        path: path of the file, for messages.

    Raises:
        ValueError: the description is invalid, or does not match the tensors.
    """
    widest = max((size for tensor in tensors.values() for size in tensor.shape), default=0)
    try:
        # on the meta device sizes cost nothing, whatever the file claims
        with torch.device("meta"):
            model = _built(description, _Limits(widest, iter(range(_MOST_PARTS))), 0)
        parameters = {name for name, _ in model.named_parameters()}
        for name, tensor in tensors.items():
            # a buffer may hold whole numbers, such as indices
            if tensor.dtype not in _FLOATS and (name in parameters or tensor.dtype not in _WHOLE):
                raise ValueError(f"{name} holds {tensor.dtype}, no weights")
        # one copy per tensor, even under several names: in the file it may start at any byte, and its
        # alignment changes how sums round
        copies = {id(tensor): tensor.clone() for tensor in tensors.values()}
        model.load_state_dict({name: copies[id(tensor)] for name, tensor in tensors.items()}, assign=True)
    except (
        RuntimeError,
        KeyError,
        TypeError,
        OverflowError,
    ) as error:  # raised by torch for names, sizes and mismatches
        raise ValueError(f"{path} does not fit the model: {error}") from error
    except ValueError as error:
        raise ValueError(f"{path} cannot be rebuilt: {error}") from error
    return model


@dataclass(frozen=True)
class _Limits:
    """The limits of a description: sizes up to those of the widest tensor, and a number of parts."""

    widest: int
    parts: Iterator[int]


def _built(description: Any, limits: _Limits, depth: int) -> nn.Module:
    if not isinstance(description, dict):
        raise ValueError(f"the file has a {type(description).__name__} where it describes a part")
    if depth > _DEEPEST or next(limits.parts, None) is None:
        raise ValueError(
            f"the file has more than {_MOST_PARTS:,} parts, or more than {_DEEPEST} levels of them"
        )
    options = {key: value for key, value in description.items() if key != "kind"}
    kind = description.get("kind")
    if isinstance(kind, str) and kind in _CHAINS:
        return _chain(_CHAINS[kind], options, limits, depth)
    if kind == CODED:
        return _coded(options, limits, depth)
    if isinstance(kind, str) and kind in _leaves():
        leaf = _leaves()[kind]
        _check_options(kind, leaf, options, limits.widest)
        return (leaf.build or leaf.module)(**options)
    raise ValueError(f"the file names a part {kind!r:.80}; known are {sorted([*_CHAINS, *_leaves()])}")


def _chain(kind: type[nn.Sequential], options: dict[str, Any], limits: _Limits, depth: int) -> nn.Sequential:
    listed = options.get("parts")
    if not isinstance(listed, list) or not all(isinstance(part, list) and len(part) == 2 for part in listed):
        raise ValueError("the file has a chain without a list of named parts")
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    for name, part in listed:
        if not isinstance(name, str) or name in parts:
            raise ValueError(f"the file names two parts alike, or one by no text: {name!r:.80}")
        parts[name] = _built(part, limits, depth + 1)
    chain = kind.__new__(kind)
    nn.Sequential.__init__(chain, parts)  # MLP's own constructor would make dense layers
    return chain


def _coded(options: dict[str, Any], limits: _Limits, depth: int) -> Coded:
    offset, dtype = options.get("offset"), options.get("dtype")
    dtypes = {str(dtype).removeprefix("torch."): dtype for dtype in _FLOATS}
    if set(options) != {"layer", "offset", "dtype"} or offset not in (0.0, 0.5) or dtype not in dtypes:
        raise ValueError(f"a part {CODED!r} has a layer, an offset of 0 or 0.5, and the dtype of its weights")
    return Coded.empty(_built(options["layer"], limits, depth + 1).to(dtypes[dtype]), float(offset))


def _check_options(kind: str, leaf: Leaf, options: dict[str, Any], widest: int) -> None:
    if set(options) != set(leaf.options):
        raise ValueError(f"a part {kind!r} is described by {sorted(leaf.options)}, not by {sorted(options)}")
    for option, wanted in leaf.options.items():
        if not _is(options[option], wanted):
            shown = f"{options[option]!r:.80}"
            raise ValueError(f"a part {kind!r} has {option} = {shown}, which is no {wanted.__name__}")
    sizes = [value for value in options.values() if type(value) is int and leaf.sized]
    if sizes and not 0 <= min(sizes) <= max(sizes) <= max(widest, 1):
        raise ValueError(f"a part {kind!r} is described as larger than every tensor of the file: {options}")
    if kind == "dropout" and not 0.0 <= options["p"] <= 1.0:
        raise ValueError(f"a part 'dropout' has p = {options['p']}")
    if kind == "gelu" and options["approximate"] not in ("none", "tanh"):
        raise ValueError(f"a part 'gelu' has approximate = {options['approximate']!r:.80}")


def _fits(leaf: Leaf, options: dict[str, Any]) -> bool:
    return all(_is(options[name], wanted) for name, wanted in leaf.options.items())


def _is(value: object, wanted: type) -> bool:
    """Tell whether a value has a type; an int may stand for a float, but a bool for no number."""
    if wanted is list:
        return isinstance(value, list) and all(type(item) is int and 0 <= item <= _WIDEST for item in value)
    return type(value) is wanted or (wanted is float and type(value) is int)
