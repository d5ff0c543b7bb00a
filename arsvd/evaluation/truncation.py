"""A linear layer at whichever rank is asked for."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from arsvd.calls import carry
from arsvd.compression import factors
from arsvd.formats.low_rank import TILE
from arsvd.statistics.spectrum import Spectrum


@dataclass(frozen=True)
class Truncation:
    """What a layer needs at any rank, in the model's dtype but for the bias.

    Attributes:
        weight: (out, in), the dense layer's.
        bias: (out,), the dense layer's, or None.
        left: (out, k), right: (k, in), the factors at full rank.
        biased: whether the truncated layer has a bias.
        mean: (out,) float64, of the layer's outputs.
        along: (k,) float64, the mean's part along each component.
        vectors: (out, k) float64.
    """

    weight: Tensor
    bias: Tensor | None
    left: Tensor
    right: Tensor
    biased: bool
    mean: Tensor
    along: Tensor
    vectors: Tensor

    @classmethod
    def of(cls, layer: nn.Linear, spectrum: Spectrum) -> "Truncation":
        weight = layer.weight.detach()
        # the compressed layer's own factors: scaled otherwise, half precision would round them otherwise
        left, right, _ = factors(spectrum, layer, spectrum.full_rank)
        return cls(
            weight,
            layer.bias,
            left.to(weight.dtype),
            right.to(weight.dtype),
            spectrum.biased_when_truncated,
            spectrum.mean,
            spectrum.duals.T @ spectrum.mean,
            spectrum.vectors,
        )

    def bias_at(self, rank: int) -> Tensor | None:
        """(out,) at a rank: b_r = b + mean - U_r (U_r^T mean)."""
        if not self.biased:
            return None
        lost = self.mean - self.vectors[:, :rank] @ self.along[:rank]
        return (lost if self.bias is None else lost + self.bias.double()).to(self.weight.dtype)


class Truncated(nn.Module):
    """A linear layer at whichever rank is asked for, with the hooks and attributes that it had."""

    def __init__(self, layer: nn.Linear, spectrum: Spectrum) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.truncation = Truncation.of(layer, spectrum)
        self.rank: int | None = None
        carry(layer, self)

    @property
    def weight(self) -> Tensor:
        """(out, in) at the rank asked for: `nn.TransformerEncoderLayer` reads it in place of a call."""
        own = self.truncation
        return own.weight if self.rank is None else own.left[:, : self.rank] @ own.right[: self.rank]

    @property
    def bias(self) -> Tensor | None:
        """(out,) at the rank asked for."""
        return self.truncation.bias if self.rank is None else self.truncation.bias_at(self.rank)

    def outputs(self, x: Tensor, ranks: Sequence[int | None]) -> Iterable[tuple[int | None, Tensor]]:
        """Yield the layer's outputs at each of several ranks, from one product with U^T W."""
        own = self.truncation
        largest = max((rank for rank in ranks if rank is not None), default=0)
        # up to whole tiles of the product's kernel: some columns more take less time
        reduced = F.linear(x, own.right[: -(-largest // TILE) * TILE]) if largest else None
        for rank in ranks:
            if rank is None or reduced is None:
                yield rank, F.linear(x, own.weight, own.bias)
            else:
                yield rank, F.linear(reduced[..., :rank], own.left[:, :rank], own.bias_at(rank))

    def forward(self, input: Tensor) -> Tensor:
        return next(iter(self.outputs(input, [self.rank])))[1]
