"""How many rows of inputs a model can take at once without filling the memory."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from arsvd.batches import EXAMPLE_ROWS
from arsvd.modes import evaluation_mode

MOST_BYTES = 2**30  # of everything that a model computes for the rows of one pass


class _Computed(TorchDispatchMode):
    """Counts the bytes of every operation's result; views of existing tensors cost nothing."""

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
    """Return the number of rows that one pass may take.

    All results of a pass count as if they were kept, as they are where gradients are wanted.

    Args:
        model: model that takes the inputs; it is not changed.
        inputs: tensor (rows, …).
        most: largest number of rows per pass, where memory sets no limit.

    Returns:
        A number from 1 to `most`. It is `most` where the model does not take the inputs: the caller finds
        that out.
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
