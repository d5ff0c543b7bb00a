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
from torch.export import Dim, ExportedProgram

import arsvd
from arsvd.files.exported import program_bytes
from sweeps.tracking.versions import PROGRAM_PATH, WEIGHTS_PATH

# torch.export takes a batch of 1 for a constant, and writes a model that accepts no other batch. 3 is none of
# the sizes it treats specially.
_EXAMPLES = 3
_TOLERANCE = 1e-5
_NICE = 19  # behind the last members in training, which Ray has at 15

# What was read back from a file and compared in this process: models of one form differ in numbers only.
_proven: set[tuple[str, ...]] = set()


@dataclass(frozen=True)
class Order:
    """A model to export.

    Attributes:
        network: on the CPU and in evaluation mode; float32 images (batch, channels, height, width) in [0, 1]
            to logits (batch, classes).
        header: what its safetensors file says of it.
        images: uint8 (images, channels, height, width), one or more, to try it on.
        dataset: name, content hash and classes of the data set.
    """

    network: nn.Module
    header: dict[str, Any]
    images: Tensor
    dataset: tuple[str, str, tuple[str, ...]]

    @property
    def example(self) -> Tensor:
        """Float32 images (3, channels, height, width), repeated where there are fewer; no file holds them."""
        images = self.images[:_EXAMPLES]
        images = images.repeat(-(-_EXAMPLES // len(images)), 1, 1, 1)[:_EXAMPLES]
        return (images.float() / 255.0).contiguous()


def prepare_process() -> None:
    """Make a process one that writes models for another."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the sweep, which ends this process
    os.nice(_NICE)
    torch.set_num_threads(1)


def warm() -> None:
    """Export something small: the first export of a process loads what takes as long as twenty others."""
    torch.export.export(nn.Linear(2, 2), (torch.zeros(_EXAMPLES, 2),), dynamic_shapes=[{0: Dim.AUTO}])


def write(order: Order, folder: Path) -> str:
    """Write a model's files below a folder: pt2 with a dynamic batch, and the safetensors file.

    Returns:
        SHA-256 of the safetensors file.

    Raises:
        ValueError: the model does not give one logit a class, or its exported form disagrees with it.
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
    program = torch.export.export(network, (torch.zeros_like(example),), dynamic_shapes=[{0: Dim.AUTO}])
    _check(program, network, example)
    (folder / PROGRAM_PATH).write_bytes(program_bytes(program))
    form = tuple(f"{node.op} {node.target}" for node in program.graph.nodes)
    if form not in _proven:
        _check(torch.export.load(folder / PROGRAM_PATH), network, example)
        _proven.add(form)
    arsvd.save(network, folder / WEIGHTS_PATH, order.header)
    return hashlib.sha256((folder / WEIGHTS_PATH).read_bytes()).hexdigest()


def _check(program: ExportedProgram, network: nn.Module, example: Tensor) -> None:
    """Compare an exported model with its origin at other batch sizes than the one it was exported with."""
    exported = program.module()
    for images in (example[:1], torch.cat([example, example])):
        with torch.no_grad():
            wanted = network(images)
            try:
                got = exported(images)
            except Exception as error:  # a guard of the export; torch raises several kinds
                raise ValueError(
                    f"the exported model does not take a batch of {len(images)}: {error}"
                ) from error
        if not torch.allclose(got, wanted, rtol=_TOLERANCE, atol=_TOLERANCE):
            worst = float((got - wanted).abs().max())
            raise ValueError(f"the exported model's logits differ by {worst:.2g} at batch {len(images)}")
