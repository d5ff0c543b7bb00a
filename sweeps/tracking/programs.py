"""A model as files without pickle: the program that torch exports, and the safetensors file beside it.

Only torch is imported: a process that writes models need not wait for MLflow.
"""

import hashlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import arsvd
from arsvd.files.exported import check_program, export, program_bytes
from sweeps.tracking.versions import PROGRAM_PATH, WEIGHTS_PATH

_EXAMPLES = 3  # not one of the sizes that torch.export treats specially
_NICE = 19  # behind the last members in training, which Ray runs at 15

# Forms of models that this process read back from a file and compared: models of one form differ only in
# their numbers.
_proven: set[tuple[str, ...]] = set()


@dataclass(frozen=True)
class Order:
    """A model to export.

    Attributes:
        network: module on the CPU and in evaluation mode, from float32 images (batch, channels, height,
            width) in [0, 1] to logits (batch, classes).
        header: description of the model in its safetensors file.
        images: one or more images to try the model on, uint8 (images, channels, height, width).
        dataset: name, content hash and classes of the data set.
    """

    network: nn.Module
    header: dict[str, Any]
    images: Tensor
    dataset: tuple[str, str, tuple[str, ...]]

    @property
    def example(self) -> Tensor:
        """Float32 images (3, channels, height, width), repeated if there are fewer; they are in no file."""
        images = self.images[:_EXAMPLES]
        images = images.repeat(-(-_EXAMPLES // len(images)), 1, 1, 1)[:_EXAMPLES]
        return (images.float() / 255.0).contiguous()


def prepare_process() -> None:
    """Set up a process that writes models for another one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the sweep, which ends this process
    os.nice(_NICE)
    torch.set_num_threads(1)


def warm() -> None:
    """Export something small: what the first export of a process loads takes as long as twenty exports."""
    export(nn.Linear(2, 2), torch.zeros(_EXAMPLES, 2))


def write(order: Order, folder: Path) -> str:
    """Write a model's files below a folder: pt2 with a dynamic batch, and the safetensors file.

    Returns:
        SHA-256 of the safetensors file.

    Raises:
        ValueError: the model does not give one logit per class, or its exported form disagrees with it.
    """
    network, example = order.network, order.example
    name, _, classes = order.dataset
    with torch.no_grad():
        logits = network(example)
    if logits.shape != (len(example), len(classes)):
        raise ValueError(
            f"a model of {name!r} must map {tuple(example.shape)} to {(len(example), len(classes))}, "
            f"got {tuple(logits.shape)}"
        )
    for file in (PROGRAM_PATH, WEIGHTS_PATH):
        (folder / file).parent.mkdir()
    program = export(network, example)
    (folder / PROGRAM_PATH).write_bytes(program_bytes(program))
    form = tuple(f"{node.op} {node.target}" for node in program.graph.nodes)
    if form not in _proven:
        check_program(torch.export.load(folder / PROGRAM_PATH), network, example)
        _proven.add(form)
    arsvd.save(network, folder / WEIGHTS_PATH, order.header)
    return hashlib.sha256((folder / WEIGHTS_PATH).read_bytes()).hexdigest()
