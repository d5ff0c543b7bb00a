"""A member in the middle of its training, as bytes: safetensors with a JSON header, no pickle."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from arsvd.json_fields import Size, read_fields, read_json

STATE_VERSION = 2
_HEADER, _DIGEST = "arsvd training", "sha256"
_LENGTH_BYTES = 8  # of a safetensors file's header, at its beginning


class StateError(ValueError):
    """A training state is damaged, of another version, or of another training."""


@dataclass(frozen=True)
class _Header:
    """The parts of a file other than the tensors; see `MemberState`."""

    settings: dict[str, Any]
    steps: Size
    curves: dict[str, list[float]]
    failure: str | None
    seconds: float


@dataclass(frozen=True)
class MemberState:
    """Everything that one member needs to go on as if it had never stopped.

    Attributes:
        settings: settings of the training, JSON-able; a state continues a training of equal settings only.
        steps: number of optimizer steps done.
        curves: curves so far, with one value per finished epoch.
        failure: cause of the member's failure, or None.
        seconds: seconds trained so far, the member's share of its pack's time.
        tensors: weights, both moments, the sum of the losses since the epoch began, the random state, and
            what training methods keep, under their names. None of them is padded: the next pack may have
            other widths.
    """

    settings: dict[str, Any]
    steps: int
    curves: dict[str, list[float]]
    failure: str | None
    seconds: float
    tensors: dict[str, Tensor]

    def to_bytes(self) -> bytes:
        """Write the state, with a checksum over all of it."""
        header = {
            "version": STATE_VERSION,
            "settings": self.settings,
            "steps": self.steps,
            "curves": self.curves,
            "failure": self.failure,
            "seconds": self.seconds,
        }
        text = json.dumps(header, allow_nan=False, sort_keys=True)
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.tensors.items()}
        metadata = {_HEADER: text, _DIGEST: _digest(text, tensors)}
        return bytes(safetensors.torch.save(tensors, metadata=metadata))

    @classmethod
    def from_bytes(cls, content: bytes) -> "MemberState":
        """Read what `to_bytes` wrote.

        Raises:
            StateError: the content is damaged, of another kind, or of another version.
        """
        try:
            tensors = safetensors.torch.load(content)
            length = int.from_bytes(content[:_LENGTH_BYTES], "little")
            parsed = read_json(content[_LENGTH_BYTES : _LENGTH_BYTES + length])
            metadata = parsed.get("__metadata__") or {}
            text, digest = metadata[_HEADER], metadata[_DIGEST]
        except SafetensorError as error:
            raise StateError(f"a training state is not whole: {error}") from error
        except (ValueError, KeyError) as error:
            raise StateError("a training state was not written by this library") from error
        if _digest(text, tensors) != digest:
            raise StateError("a training state is damaged: its checksum does not fit its content")
        try:
            values = read_json(text)
            version = values.pop("version", None) if isinstance(values, dict) else None
            if version != STATE_VERSION:
                raise StateError(
                    f"a training state is of version {version}; this release reads {STATE_VERSION}"
                )
            header = read_fields(_Header, values, "not a whole training state")
        except StateError:
            raise
        except ValueError as error:
            raise StateError(f"a training state is damaged: {error}") from error
        return cls(**vars(header), tensors=tensors)


def _digest(text: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        # as bytes: NumPy has no bfloat16
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
