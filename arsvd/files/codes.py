"""A model with codes as one tensor of bytes: its description, what is no code as it is, and the coded codes.

The description is JSON, deflated with a dictionary of the words that such descriptions have: a few hundred
bytes, where bare JSON and the entries of many small tensors would take more than the codes of a small model.
"""

import json
import math
import os
import zlib
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from arsvd.codings import CODINGS

MODEL = "model"  # name of the tensor
_CODING = "adaptive"
_CODES = {str(dtype).removeprefix("torch."): dtype for dtype in (torch.int8, torch.int16, torch.int32)}
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_OTHERS = {str(dtype).removeprefix("torch."): dtype for dtype in (*_FLOATS, torch.int64, torch.bool)} | _CODES
_NUMBER = 4  # bytes of the checksum, and of the length of the description
_MOST_TEXT = 2**24  # characters of a description

# Part of the format for ever: what deflated descriptions refer to, the most frequent last.
_WORDS = (
    b'"metadata": {}, "aliases": {}, "formats": {}, "low_rank": {}, "dtypes": ["torch.float16", "torch'
    b'.float32", "torch.int16", "torch.int8"], "architecture": {"kind": "sequential", "parts": [["norm'
    b'alize", {"kind": "normalize", "channels": 1}], ["network", {"kind": "mlp", "parts": [["flatten",'
    b' {"kind": "flatten", "start_dim": 1, "end_dim": -1}], ["relu1", {"kind": "relu"}], ["linear1", {'
    b'"kind": "coded", "layer": {"kind": "linear", "in_features": 784, "out_features": 10, "bias": tru'
    b'e}, "offset": 0.0, "dtype": "float32"}], ["linear2", {"kind": "coded", "layer": {"kind": "low_ra'
    b'nk_linear", "in_features": 256, "rank": 16, "out_features": 128, "bias": true}, "offset": 0.0, "'
    b'dtype": "float32"}]]]}]]}, "coding": "adaptive", "others": [["normalize.mean", [1], "float32"], '
    b'["normalize.std", [1], "float32"], ["network.linear1.steps", [16], "float16"], ["network.linear1'
    b'.bias_stored", [128], "float16"]], "codes": [["network.linear1.right_codes", [16, 784], "int8"],'
    b' ["network.linear2.left_codes", [128, 16], "int8"], ["network.linear3.weight_codes", [10, 128], '
    b'"int8"]]}'
)


def packed(header: Mapping[str, Any], tensors: Mapping[str, Tensor], codes: Collection[str]) -> Tensor:
    """Write a model as bytes.

    Args:
        header: JSON-able description of the model.
        tensors: tensors of the model, on the CPU, by name.
        codes: names of the tensors of codes.

    Returns:
        Bytes (n,), uint8.
    """
    own = {name: tensor for name, tensor in tensors.items() if name in codes}
    others = {name: tensor for name, tensor in tensors.items() if name not in codes}
    listed = {
        "coding": _CODING,
        "others": [_entry(name, tensor) for name, tensor in others.items()],
        "codes": [_entry(name, tensor) for name, tensor in own.items()],
    }
    parts = [tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes() for tensor in others.values()]
    body = b"".join(parts)
    return sealed({**header, **listed}, body + CODINGS[_CODING].encode([t.numpy() for t in own.values()]))


def sealed(header: Mapping[str, Any], body: bytes) -> Tensor:
    """Put a description before a body, and a checksum before both."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_DEFAULT_STRATEGY, _WORDS)
    text = deflate.compress(json.dumps(header, allow_nan=False).encode()) + deflate.flush()
    content = len(text).to_bytes(_NUMBER, "big") + text + body
    return torch.frombuffer(
        bytearray(zlib.crc32(content).to_bytes(_NUMBER, "big") + content), dtype=torch.uint8
    )


def opened(content: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the description and the body.

    Raises:
        ValueError: the bytes are damaged, or are none that `sealed` wrote.
    """
    checksum, rest = content[:_NUMBER], content[_NUMBER:]
    if zlib.crc32(rest).to_bytes(_NUMBER, "big") != checksum:
        raise ValueError("the checksum differs")
    size = int.from_bytes(rest[:_NUMBER], "big")
    inflate = zlib.decompressobj(-15, _WORDS)
    try:
        text = inflate.decompress(rest[_NUMBER : _NUMBER + size], _MOST_TEXT)
        header: Any = json.loads(text)
    except (zlib.error, ValueError, RecursionError) as error:
        raise ValueError(f"its description cannot be read: {error}") from error
    if not inflate.eof or not isinstance(header, dict):
        raise ValueError("its description is none")
    return header, rest[_NUMBER + size :]


def unpacked(content: Tensor, path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read what `packed` wrote: the description and the tensors.

    Args:
        content: bytes (n,).
        path: file, for messages.

    Raises:
        ValueError: the bytes are damaged, or are not what the description says.
    """
    try:
        header, body = opened(content.numpy().tobytes())
        own, others = header.pop("codes"), header.pop("others")
        tensors: dict[str, Tensor] = {}
        for name, shape, dtype in others:
            kind = _OTHERS[dtype]
            size = _count(shape) * kind.itemsize
            if size > len(body):
                raise ValueError(f"{name!r:.80} is larger than the file")
            part, body = body[:size], body[size:]
            _add(tensors, name, torch.frombuffer(bytearray(part), dtype=torch.uint8).view(kind), shape)
        found = CODINGS[header.pop("coding")].decode(body, [_count(shape) for _, shape, _ in own])
        for (name, shape, dtype), codes in zip(own, found, strict=True):
            _add(tensors, name, _held(codes, _CODES[dtype]), shape)
    except (KeyError, TypeError, ValueError, OverflowError, RuntimeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    return header, tensors


def _entry(name: str, tensor: Tensor) -> list[Any]:
    return [name, list(tensor.shape), str(tensor.dtype).removeprefix("torch.")]


def _count(shape: Any) -> int:
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"{shape!r:.80} is no shape")
    return math.prod(shape)


def _held(codes: np.ndarray, dtype: torch.dtype) -> Tensor:
    limits = torch.iinfo(dtype)
    if codes.size and not limits.min <= int(codes.min()) <= int(codes.max()) <= limits.max:
        raise ValueError(f"codes do not fit {dtype}")
    return torch.from_numpy(codes).to(dtype)


def _add(tensors: dict[str, Tensor], name: Any, tensor: Tensor, shape: list[int]) -> None:
    if not isinstance(name, str) or name in tensors:
        raise ValueError(f"a tensor is called {name!r:.80}")
    tensors[name] = tensor.reshape(shape)
