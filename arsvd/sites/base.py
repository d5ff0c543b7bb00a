"""What every kind of site promises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor, nn

    from arsvd.leaves import Leaf


class Site(ABC):
    """A layer y = W x + b whose weight is a matrix, or one matrix for each of several groups of its outputs.

    "Rows" are the vectors that the matrix multiplies: the inputs of a linear layer, the patches of a
    convolution. Where there is more than one group, tensors have a leading dimension for the groups.

    Args:
        layer: layer of the class that `kind` returns.

    Attributes:
        name: name of the kind of site.
        positional: True if one input row of the layer has several positions, each of which is a row for the
            matrix.
        layer: layer at this site.
        groups: number of matrices, each with its own share of the outputs.
        out_features: number of outputs per row, over all groups.
        in_features: number of columns of each matrix.
    """

    name: ClassVar[str]
    positional: ClassVar[bool] = False
    layer: nn.Module
    groups: int = 1
    out_features: int
    in_features: int

    @abstractmethod
    def __init__(self, layer: Any) -> None: ...

    @classmethod
    @abstractmethod
    def kind(cls) -> type[nn.Module]:
        """Return the class of the layers, without its subclasses."""

    @classmethod
    @abstractmethod
    def smallest(cls) -> nn.Module:
        """Make the smallest layer of the kind; it shows which attributes every such layer has."""

    @classmethod
    @abstractmethod
    def examples(cls) -> Sequence[tuple[nn.Module, Tensor]]:
        """Make layers of every sort, each with inputs of two rows, for the contract."""

    @classmethod
    @abstractmethod
    def leaves(cls) -> Mapping[str, Leaf]:
        """Return the parts that files may name: the layer, and its replacement."""

    @classmethod
    @cache
    def own_names(cls) -> frozenset[str]:
        """Return the names of the attributes that every layer of the kind has."""
        return frozenset(vars(cls.smallest())) | {"_compiled_call_impl"}

    @classmethod
    @cache
    def taken_names(cls) -> frozenset[str]:
        """Return the names of the attributes that a replacement needs for itself."""
        return frozenset(dir(cls(cls.smallest()).pair(1, bias=True))) | {"at_sizes", "size"}

    @property
    def weight(self) -> Tensor:
        """The layer's weight, without a gradient."""
        found: Tensor = self.layer.weight.detach()  # type: ignore[operator]
        return found

    @property
    def wide_weight(self) -> Tensor:
        """The weight for `products`: half precision in float32, since rounding z would add its own noise."""
        import torch

        weight = self.weight
        return weight if weight.dtype == torch.float64 else weight.float()

    @property
    def bias(self) -> Tensor | None:
        """The layer's bias (out,), without a gradient."""
        found = self.layer.bias
        return None if found is None else found.detach()  # type: ignore[operator]

    @property
    def matrix(self) -> Tensor:
        """The weight as a matrix (out, in), or as matrices (groups, out / groups, in)."""
        return self.grouped(self.weight.flatten(1))

    def grouped(self, tensor: Tensor) -> Tensor:
        """Split a tensor (out, …) into (groups, out / groups, …); leave it as it is for a single group."""
        return tensor if self.groups == 1 else tensor.unflatten(0, (self.groups, -1))

    @abstractmethod
    def products(self, x: Tensor) -> Tensor:
        """Multiply the layer's inputs by its matrix.

        Args:
            x: inputs of the layer.

        Returns:
            z = Wx without the bias, (rows, out), or (groups, rows, out / groups).
        """

    @abstractmethod
    def outputs(self, y: Tensor) -> Tensor:
        """View the layer's outputs, or their gradients, in the shape that `products` returns."""

    @abstractmethod
    def rows(self, x: Tensor) -> Tensor:
        """View the layer's inputs as rows: (rows, in), or (groups, rows, in)."""

    def with_matrix(self, matrix: Tensor, bias: Tensor | None) -> None:
        """Overwrite the layer's weight and bias with a matrix in the shape of `matrix`, and a bias (out,)."""
        self.weight.copy_(matrix.reshape(self.weight.shape))
        if bias is not None and self.bias is not None:
            self.bias.copy_(bias)

    @abstractmethod
    def reduced(self, x: Tensor, right: Tensor) -> Tensor:
        """Multiply the layer's inputs by right factors (k, in), or (groups, k, in), for `restored`."""

    @abstractmethod
    def restored(self, reduced: Tensor, left: Tensor, bias: Tensor | None) -> Tensor:
        """Return the layer's outputs from the first r components.

        Args:
            reduced: products that `reduced` returned for at least r right factors.
            left: left factors (out, r).
            bias: bias (out,); None where there is none.
        """

    @abstractmethod
    def pair(self, rank: int, bias: bool) -> nn.Module:
        """Make the layer of two factors that replaces this layer; its numbers are not set.

        Args:
            rank: number of components in each group.
            bias: True if the new layer has a bias.

        Returns:
            A layer in this layer's dtype and on its device, with the attribute `rank` and the parameters
            `left` (out, rank), `right` (groups * rank, …) and `bias`.
        """
