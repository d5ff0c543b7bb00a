"""The parts that a file may name: how each of them is described in JSON and rebuilt."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Leaf:
    """A part without parts of its own.

    Attributes:
        module: class of the part.
        options: types of the options that the part is built with, by name; `list` is a list of whole numbers.
        build: function that builds the part from its options; the class itself when None.
        describe: function that returns the options that are not attributes of the part, such as
            {"channels": …}.
        sized: True if the whole numbers among the options are sizes of tensors, and bounded by them.
    """

    module: type[nn.Module]
    options: Mapping[str, type]
    build: Callable[..., nn.Module] | None = None
    describe: Callable[[Any], Mapping[str, object]] | None = None
    sized: bool = True
