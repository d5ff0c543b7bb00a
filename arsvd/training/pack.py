"""Several MLPs in one set of tensors with a leading members dimension.

Every layer of a member is a product of one or more factors: one for a dense layer, N for LoRITa training
(arXiv 2405.03089), two for a compressed layer that is fine-tuned. Members of one pack agree in the number of
layers and in the number of factors of each layer; their widths may differ. Narrower members are padded with
zeros: a padded unit has zero weights in and out, so its activation and all gradients that pass through it are
zero, and neither AdamW nor weight decay changes a zero with a zero gradient.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from arsvd.mlp import MLP
from arsvd.sites.linear import LowRankLinear
from arsvd.training.architecture import Architecture, structure


@dataclass(frozen=True)
class Parameter:
    """One stacked tensor that the optimizer trains.

    Attributes:
        tensor: (members, rows, columns), padded with zeros.
        shapes: rows and columns of each member; the rest is padding.
        decayed: True if weight decay shrinks it.
        method: name of the training method that it belongs to; None for the pack's own.
    """

    tensor: Tensor
    shapes: tuple[tuple[int, int], ...]
    decayed: bool
    method: str | None = None


def architecture_of(model: nn.Module) -> Architecture:
    """Describe an MLP, dense or compressed to low ranks.

    Raises:
        ValueError: the model is not a chain of such layers and ReLUs.
    """
    found = [[factor.shape[1] for factor in factors] for factors in map(_factors, _layers(model))]
    return tuple((*sizes, layer.out_features) for sizes, layer in zip(found, _layers(model), strict=True))


def _layers(model: nn.Module) -> list[nn.Linear | LowRankLinear]:
    if not isinstance(model, MLP):
        raise ValueError(f"packs train MLPs, got a {type(model).__name__}")
    found = [layer for layer in model.layers.values() if isinstance(layer, nn.Linear | LowRankLinear)]
    if len(found) < len(model.layers):
        kinds = [type(layer).__name__ for layer in model.layers.values()]
        raise ValueError(f"packs train dense and low-rank layers, got {kinds}")
    return found


def _factors(layer: nn.Linear | LowRankLinear) -> list[Tensor]:
    """Return a layer's weights (out, in), the first one that its inputs meet first."""
    return [layer.right, layer.left] if isinstance(layer, LowRankLinear) else [layer.weight]


class Pack:
    """The stacked weights of several members.

    Attributes:
        architectures: architecture of each member.
        weights: tensors (members, in, out), padded with zeros, per layer and factor.
        biases: tensors (members, 1, out), padded with zeros, per layer.

    Raises:
        ValueError: there is no member, or members differ in their layers, in their factors, in their
            inputs or in their classes.
    """

    def __init__(
        self, architectures: Sequence[Architecture], device: torch.device, dtype: torch.dtype
    ) -> None:
        kinds = {structure(architecture) for architecture in architectures}
        if len(kinds) != 1:
            raise ValueError(
                f"members of one pack must agree in layers and factors per layer, got {sorted(kinds)}"
            )
        ends = {(architecture[0][0], architecture[-1][-1]) for architecture in architectures}
        if len(ends) != 1:  # padded classes would take their share of every softmax
            raise ValueError(f"members of one pack must agree in inputs and classes, got {sorted(ends)}")
        self.architectures = tuple(architectures)
        self.weights: list[list[Tensor]] = []
        self.biases: list[Tensor] = []
        members = len(architectures)
        for layer in range(len(architectures[0])):
            sizes = [
                max(architecture[layer][position] for architecture in architectures)
                for position in range(len(architectures[0][layer]))
            ]
            self.weights.append(
                [torch.zeros(members, a, b, device=device, dtype=dtype) for a, b in itertools.pairwise(sizes)]
            )
            self.biases.append(torch.zeros(members, 1, sizes[-1], device=device, dtype=dtype))

    @classmethod
    def from_seeds(
        cls,
        architectures: Sequence[Architecture],
        seeds: Sequence[int],
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> "Pack":
        """Draw new members, each from its own seed, independent of the rest of the pack.

        The first factor is drawn as `nn.Linear` draws its weight; further LoRITa factors are orthogonal,
        so the product is scaled like a plain layer's.
        """
        pack = cls(architectures, torch.device(device), dtype)
        for member, (architecture, seed) in enumerate(zip(architectures, seeds, strict=True)):
            generator = torch.Generator().manual_seed(seed)
            for layer, dims in enumerate(architecture):
                bound = 1 / math.sqrt(dims[0])
                for factor, (a, b) in enumerate(itertools.pairwise(dims)):
                    drawn = torch.empty(a, b)
                    if factor == 0:
                        drawn.uniform_(-bound, bound, generator=generator)
                    else:
                        nn.init.orthogonal_(drawn, generator=generator)
                    pack.weights[layer][factor][member, :a, :b] = drawn
                bias = torch.empty(dims[-1]).uniform_(-bound, bound, generator=generator)
                pack.biases[layer][member, 0, : dims[-1]] = bias
        return pack

    @classmethod
    def from_models(
        cls,
        models: Sequence[nn.Module],
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> "Pack":
        """Take the weights of MLPs, dense or compressed; the models are not changed."""
        pack = cls([architecture_of(model) for model in models], torch.device(device), dtype)
        with torch.no_grad():
            for member, model in enumerate(models):
                for layer, module in enumerate(_layers(model)):
                    for factor, part in enumerate(_factors(module)):
                        pack.weights[layer][factor][member, : part.shape[1], : part.shape[0]] = part.T
                    if module.bias is not None:
                        pack.biases[layer][member, 0, : len(module.bias)] = module.bias
        return pack

    @property
    def members(self) -> int:
        """Number of members."""
        return len(self.architectures)

    @property
    def parameters(self) -> list[Tensor]:
        """All weights, layer by layer, then all biases."""
        return [weight for factors in self.weights for weight in factors] + self.biases

    @property
    def hidden_widths(self) -> list[list[int]]:
        """Widths of all members without padding, per hidden layer."""
        return [[a[layer][-1] for a in self.architectures] for layer in range(len(self.architectures[0]) - 1)]

    def own_shapes(self, member: int) -> list[tuple[int, int]]:
        """Return a member's rows and columns of each of `parameters`; the rest is padding."""
        architecture = self.architectures[member]
        weights = [pair for dims in architecture for pair in itertools.pairwise(dims)]
        return weights + [(1, dims[-1]) for dims in architecture]

    def own_parameters(self) -> list[Parameter]:
        """Describe `parameters`: weights, which weight decay shrinks, and biases, which it does not."""
        shapes = zip(*map(self.own_shapes, range(self.members)), strict=True)
        count = len(self.parameters) - len(self.biases)
        return [
            Parameter(tensor, own, decayed=index < count)
            for index, (tensor, own) in enumerate(zip(self.parameters, shapes, strict=True))
        ]

    def forward(
        self,
        x: Tensor,
        weights: Sequence[Sequence[Tensor]] | None = None,
        hidden: Callable[[Tensor, int], Tensor] | None = None,
    ) -> Tensor:
        """Map (members, batch, features) to logits (members, batch, classes).

        Args:
            x: inputs; a members dimension of 1 is shared by all.
            weights: weights to use in place of the pack's, with the same shapes.
            hidden: function of each hidden layer's outputs (members, batch, width) and number, whose result
                replaces the outputs.
        """
        weights = self.weights if weights is None else weights
        for layer, factors in enumerate(weights):
            for weight in factors[:-1]:
                x = _product(x, weight)
            shared = x.shape[0] < self.members
            x = (
                _product(x, factors[-1]) + self.biases[layer]
                if shared
                else torch.baddbmm(self.biases[layer], x, factors[-1])
            )
            if layer < len(weights) - 1:
                x = torch.relu(x)
                if hidden is not None:
                    x = hidden(x, layer)
        return x

    def model(self, member: int, merge: bool) -> MLP:
        """Take one member out, without its padding.

        Args:
            member: position of the member.
            merge: True if each layer's factors are multiplied out to one dense weight (LoRITa); otherwise
                layers of two factors become `LowRankLinear`.

        Returns:
            An MLP in float32 on the CPU, in evaluation mode, independent of the pack.

        Raises:
            ValueError: layers of three or more factors would stay unmerged.
        """
        architecture = self.architectures[member]
        model = MLP([dims[0] for dims in architecture] + [architecture[-1][-1]])
        with torch.no_grad():
            for layer, dims in enumerate(architecture):
                parts = [
                    factor[member, :a, :b].detach().cpu()
                    for factor, a, b in zip(self.weights[layer], dims, dims[1:], strict=False)
                ]
                bias = self.biases[layer][member, 0, : dims[-1]].detach().cpu()
                name = f"linear{layer + 1}"
                if merge or len(parts) == 1:
                    linear = getattr(model, name)
                    product = (
                        torch.linalg.multi_dot([p.double() for p in parts]) if len(parts) > 1 else parts[0]
                    )
                    linear.weight.copy_(product.T)
                    linear.bias.copy_(bias)
                elif len(parts) == 2:
                    low_rank = LowRankLinear(dims[0], dims[1], dims[2])
                    low_rank.right.copy_(parts[0].T)
                    low_rank.left.copy_(parts[1].T)
                    if low_rank.bias is not None:
                        low_rank.bias.copy_(bias)
                    setattr(model, name, low_rank)
                else:
                    raise ValueError(f"layer {name} has {len(parts)} factors; only pairs can stay unmerged")
        return model.eval()


def _product(x: Tensor, weight: Tensor) -> Tensor:
    """Multiply (members or 1, batch, in) by (members, in, out).

    Rows that all members share are multiplied by all weights side by side: one product of many columns, where
    low-rank members alone would give many narrow ones. Those are slow on a CPU, see `LowRankLinear`.
    """
    members, features, out = weight.shape
    if x.shape[0] == members:
        return torch.bmm(x, weight)
    beside = weight.transpose(0, 1).reshape(features, members * out)
    return torch.mm(x[0], beside).reshape(-1, members, out).transpose(0, 1)
