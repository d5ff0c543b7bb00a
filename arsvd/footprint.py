"""How many rows of inputs a model can take at once without filling the memory."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from arsvd.batches import EXAMPLE_ROWS
from arsvd.modes import evaluation_mode

MOST_BYTES = 2**30  # of what a model computes for the rows of one pass


class _Computed(TorchDispatchMode):
    """Counts the bytes of what every operation makes; views of what is there cost nothing."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = {_storage(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        result = func(*args, **(kwargs or {}))
        self.bytes += sum(
            leaf.numel() * leaf.element_size()
            for leaf in tree_leaves(result)
            if isinstance(leaf, Tensor) and _storage(leaf) not in given
        )
        return result


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


@torch.no_grad()
def rows_at_once(model: nn.Module, inputs: Tensor, most: int) -> int:
    """Return how many rows a pass may take.

    Everything that a pass computes counts as if it were kept, as it is where gradients are wanted.

    Args:
        model: takes the inputs; it is not changed.
        inputs: (rows, …).
        most: rows that a pass takes where memory sets no limit.

    Returns:
        A number from 1 to `most`; `most` where the model does not take the inputs: its caller finds that out.
    """
    example = inputs[:EXAMPLE_ROWS]
    if len(inputs) <= 1 or example.numel() == 0:
        return most
    computed = _Computed()
    try:
        with evaluation_mode(model), computed:
            model(example)
    except (RuntimeError, TypeError, IndexError, ValueError):
        return most
    return max(1, min(most, MOST_BYTES * len(example) // max(1, computed.bytes)))
