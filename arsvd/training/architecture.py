"""What the layers of a network are made of."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from arsvd.training.hyperparameters import checked
from arsvd.training.methods import METHODS

# One entry per layer: its numbers of features, from its input over its inner dimensions to its output.
Architecture = tuple[tuple[int, ...], ...]


def dense_architecture(widths: Sequence[int]) -> Architecture:
    """Describe an MLP of plain layers.

    Args:
        widths: numbers of features, from the input to the output.

    Raises:
        ValueError: there are fewer than two widths, or one is below 1.
    """
    if len(widths) < 2 or min(widths) < 1:
        raise ValueError(f"an MLP needs two or more widths of at least 1, got {widths}")
    return tuple(itertools.pairwise(widths))


def new_architecture(widths: Sequence[int], settings: Mapping[str, Any]) -> Architecture:
    """Describe a new member, whose layers its training methods may change.

    Args:
        widths: numbers of features, from the input to the output.
        settings: values by the options' keys, as `Hyperparameters` takes them.

    Raises:
        ValueError: a width is below 1, there are too few, or a setting is unknown or out of its bounds.
    """
    architecture, values = dense_architecture(widths), checked(settings)
    for name in METHODS:
        architecture = METHODS[name].architecture(architecture, values)
    return architecture


def structure(architecture: Architecture) -> tuple[int, ...]:
    """Return what members of one pack must agree in: the number of factors of each layer."""
    return tuple(len(dims) - 1 for dims in architecture)
