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
    """A layer y = W x + b whose weight is a matrix, or one for each of several groups of its outputs.

    "Rows" are what the matrix is multiplied with: the inputs of a linear layer, the patches of a convolution.
    Where there are groups, a leading dimension counts them; without, there is none.

    Args:
        layer: the layer, of the class `kind`.

    Attributes:
        name: name of the kind of site.
        positional: True if one input row of the layer has several positions, each a row of the matrix.
        layer: the layer.
        groups: number of matrices, each with its own share of the outputs.
        out_features: outputs of a row, in all groups.
        in_features: columns of each matrix.
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
        """Return the class of the layers; subclasses of it are other layers."""

    @classmethod
    @abstractmethod
    def smallest(cls) -> nn.Module:
        """Make the smallest layer: its attributes are those that every layer of the kind has."""

    @classmethod
    @abstractmethod
    def examples(cls) -> Sequence[tuple[nn.Module, Tensor]]:
        """Make layers of every sort that there is, each with inputs of two rows, for the contract."""

    @classmethod
    @abstractmethod
    def leaves(cls) -> Mapping[str, Leaf]:
        """Return the parts that files may name: the layer, and what takes its place."""

    @classmethod
    @cache
    def own_names(cls) -> frozenset[str]:
        """Return the attributes that every layer of the kind has."""
        return frozenset(vars(cls.smallest())) | {"_compiled_call_impl"}

    @classmethod
    @cache
    def taken_names(cls) -> frozenset[str]:
        """Return the attributes that a replacement needs for itself."""
        return frozenset(dir(cls(cls.smallest()).pair(1, bias=True))) | {"at_sizes", "size"}

    @property
    def weight(self) -> Tensor:
        """The layer's weight, without a gradient."""
        found: Tensor = self.layer.weight.detach()  # type: ignore[operator]
        return found

    @property
    def bias(self) -> Tensor | None:
        """The layer's bias (out,), without a gradient."""
        found = self.layer.bias
        return None if found is None else found.detach()  # type: ignore[operator]

    @property
    def matrix(self) -> Tensor:
        """The weight as a matrix, (out, in), or (groups, out / groups, in)."""
        return self.grouped(self.weight.flatten(1))

    def grouped(self, tensor: Tensor) -> Tensor:
        """Give what belongs to the outputs, (out, …), its leading dimension of groups, if there are any."""
        return tensor if self.groups == 1 else tensor.unflatten(0, (self.groups, -1))

    @abstractmethod
    def products(self, x: Tensor) -> Tensor:
        """Multiply the layer's inputs with its matrix.

        Args:
            x: inputs of the layer.

        Returns:
            z = Wx without the bias, (rows, out), or (groups, rows, out / groups).
        """

    @abstractmethod
    def outputs(self, y: Tensor) -> Tensor:
        """View the layer's outputs, or gradients of them, as `products` returns them."""

    @abstractmethod
    def rows(self, x: Tensor) -> Tensor:
        """View the layer's inputs as rows: (rows, in), or (groups, rows, in)."""

    @abstractmethod
    def with_matrix(self, matrix: Tensor, bias: Tensor | None) -> None:
        """Overwrite the layer's weight and bias with a matrix as `matrix` is, and a bias (out,)."""

    @abstractmethod
    def reduced(self, x: Tensor, right: Tensor) -> Tensor:
        """Multiply the layer's inputs with right factors (k, in), or (groups, k, in), for `restored`."""

    @abstractmethod
    def restored(self, reduced: Tensor, left: Tensor, bias: Tensor | None) -> Tensor:
        """Return the layer's outputs from the first r components.

        Args:
            reduced: products of `reduced` with at least r right factors.
            left: (out, r).
            bias: (out,).
        """

    @abstractmethod
    def pair(self, rank: int, bias: bool) -> nn.Module:
        """Make the layer of two factors that takes this layer's place; its numbers are not set.

        Args:
            rank: components in each group.
            bias: True if it has a bias.

        Returns:
            A layer of this layer's dtype and on its device, with the attribute `rank` and the parameters
            `left` (out, rank), `right` (groups * rank, …) and `bias`.
        """
