"""The parts that a file may name: how each is described in JSON and built again."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Leaf:
    """A part without parts of its own.

    Attributes:
        module: class of the part.
        options: name to type of each option that it is built with; a list is one of whole numbers.
        build: maker of the part from its options; its class when None.
        describe: reader of the options that are no attributes of the part, such as {"channels": …}.
        sized: True if whole numbers among the options are sizes of tensors, and bounded by them.
    """

    module: type[nn.Module]
    options: Mapping[str, type]
    build: Callable[..., nn.Module] | None = None
    describe: Callable[[Any], Mapping[str, object]] | None = None
    sized: bool = True
