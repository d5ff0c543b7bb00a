"""Linear layers, dense and of two factors."""

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arsvd.leaves import Leaf
from arsvd.sites.base import Site

# Measured on AVX-512 CPUs with MKL (benchmarks/NOTES.md): matrix products are computed in tiles of 16
# columns, so that a result of 17 columns takes as long as one of 32. With the roles of the factors swapped,
# the columns are the batch, which is many tiles wide, and the rank becomes the rows, where a remainder costs
# little.
TILE = 16
_MANY_ROWS = 32  # with fewer rows, the swapped product itself has too few columns


class LowRankLinear(nn.Module):
    """y = left (right x) + bias, with `left` of shape (out, rank) and `right` of shape (rank, in).

    Args:
        in_features: number of inputs per row.
        rank: inner dimension, at least 1.
        out_features: number of outputs per row.
        bias: True if a bias is added.
        device: device of the factors.
        dtype: dtype of the factors.

    Raises:
        ValueError: a dimension is below 1.
    """

    def __init__(
        self,
        in_features: int,
        rank: int,
        out_features: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if min(in_features, rank, out_features) < 1:
            raise ValueError(
                f"a low-rank layer needs dimensions of at least 1, "
                f"got {in_features} -> {rank} -> {out_features}"
            )
        self.in_features, self.rank, self.out_features = in_features, rank, out_features
        self.right = nn.Parameter(torch.empty(rank, in_features, device=device, dtype=dtype))
        self.left = nn.Parameter(torch.empty(out_features, rank, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(out_features, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise both factors so that their product is scaled like an `nn.Linear` weight."""
        nn.init.kaiming_uniform_(self.right, a=math.sqrt(5))
        with torch.no_grad():  # in float32 first: orthogonalisation has no half-precision kernels
            self.left.copy_(nn.init.orthogonal_(torch.empty(self.left.shape)))
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    @property
    def weight(self) -> Tensor:
        """The product of the factors, (out, in): what code that reads `linear.weight` expects to find."""
        return self.left @ self.right

    def forward(self, input: Tensor) -> Tensor:
        """Map (..., in_features) to (..., out_features), called as `nn.Linear` is."""
        if not self._swapping_pays(input):
            return F.linear(F.linear(input, self.right), self.left, self.bias)
        rows = input.reshape(-1, self.in_features)
        # (rank, rows), passed on as a transposed view: the second product reads it as it lies
        reduced = torch.mm(self.right, rows.t()).t()
        return F.linear(reduced, self.left, self.bias).reshape(*input.shape[:-1], self.out_features)

    def _swapping_pays(self, x: Tensor) -> bool:
        # Exported programs must work for every batch, so the size may not be examined there. Calls with small
        # batches take microseconds: the cheap checks come first.
        if self.rank % TILE == 0 or torch.compiler.is_exporting():
            return False
        return x.numel() >= _MANY_ROWS * self.in_features and x.is_cpu

    def extra_repr(self) -> str:
        """Describe the shape in `print(model)`."""
        return f"in_features={self.in_features}, rank={self.rank}, out_features={self.out_features}"


class LinearSite(Site):
    """An `nn.Linear`."""

    name: ClassVar[str] = "linear"

    def __init__(self, layer: nn.Linear) -> None:
        self.layer = layer
        self.out_features, self.in_features = layer.out_features, layer.in_features

    @classmethod
    def kind(cls) -> type[nn.Linear]:
        """Return `nn.Linear`."""
        return nn.Linear

    @classmethod
    def smallest(cls) -> nn.Linear:
        """Make a layer whose weight is a single number."""
        return nn.Linear(1, 1)

    @classmethod
    def examples(cls) -> Sequence[tuple[nn.Linear, Tensor]]:
        """Make layers that are wide, tall, without a bias, and called at several positions."""
        return (
            (nn.Linear(7, 5), torch.randn(2, 7)),
            (nn.Linear(4, 9), torch.randn(2, 4)),
            (nn.Linear(6, 6, bias=False), torch.randn(2, 3, 6)),
        )

    @classmethod
    def leaves(cls) -> Mapping[str, Leaf]:
        """Return the dense layer and the layer of two factors."""
        dense = {"in_features": int, "out_features": int, "bias": bool}
        pair = {"in_features": int, "rank": int, "out_features": int, "bias": bool}
        return {"linear": Leaf(nn.Linear, dense), "low_rank_linear": Leaf(LowRankLinear, pair)}

    def products(self, x: Tensor) -> Tensor:
        """Multiply inputs (…, in)."""
        weight = self.wide_weight
        return self.rows(x).to(weight.dtype) @ weight.T

    def outputs(self, y: Tensor) -> Tensor:
        """View (…, out) as (rows, out)."""
        return y.reshape(-1, self.out_features)

    def rows(self, x: Tensor) -> Tensor:
        """View (…, in) as (rows, in)."""
        return x.reshape(-1, self.in_features)

    def reduced(self, x: Tensor, right: Tensor) -> Tensor:
        """Return (…, k)."""
        return F.linear(x, right)

    def restored(self, reduced: Tensor, left: Tensor, bias: Tensor | None) -> Tensor:
        """Return (…, out)."""
        return F.linear(reduced[..., : left.shape[1]], left, bias)

    def pair(self, rank: int, bias: bool) -> LowRankLinear:
        """Make a `LowRankLinear`."""
        like = self.weight
        return LowRankLinear(self.in_features, rank, self.out_features, bias, like.device, like.dtype)
