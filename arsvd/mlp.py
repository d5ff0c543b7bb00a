"""Multilayer perceptrons."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from torch import nn

_WITHOUT_WEIGHTS = (nn.Flatten, nn.ReLU, nn.Dropout)


class MLP(nn.Sequential):
    """Linear layers with ReLU between them; the input is flattened first.

    The layers are named `linear1`, `linear2`, …

    Args:
        widths: numbers of features from the input to the output, such as [784, 512, 256, 10].
        dropout: probability with which a hidden unit is dropped in training.

    Raises:
        ValueError: fewer than two widths, a width below 1, or a dropout outside [0, 1).
    """

    def __init__(self, widths: Sequence[int], dropout: float = 0.0) -> None:
        if len(widths) < 2 or any(int(width) != width or width < 1 for width in widths):
            raise ValueError(f"widths must be two or more whole numbers of at least 1, got {list(widths)}")
        if not 0.0 <= dropout < 1.0:
            raise ValueError(f"dropout must be in [0, 1), got {dropout}")
        modules: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
        last = len(widths) - 1
        for number in range(1, last + 1):
            modules[f"linear{number}"] = nn.Linear(widths[number - 1], widths[number])
            if number < last:
                modules[f"relu{number}"] = nn.ReLU()
                if dropout > 0:
                    modules[f"dropout{number}"] = nn.Dropout(dropout)
        super().__init__(modules)

    @property
    def layers(self) -> dict[str, nn.Module]:
        """The layers with weights, dense or compressed, by name, from the input to the output."""
        return {name: part for name, part in self.named_children() if type(part) not in _WITHOUT_WEIGHTS}

    def __getitem__(self, idx: slice | int) -> Any:
        """Return one part, or a plain chain of several, since a slice is not an MLP of given widths."""
        if isinstance(idx, slice):
            return nn.Sequential(OrderedDict(list(self._modules.items())[idx]))
        return super().__getitem__(idx)
