"""The normalisation of a model's inputs."""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Normalize(nn.Module):
    """Subtract a mean and divide by a standard deviation, per channel.

    Args:
        mean: (channels,) means of pixels in [0, 1].
        std: (channels,) standard deviations of pixels in [0, 1], all above 0.

    Raises:
        ValueError: the lengths differ or a standard deviation is not above 0.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != len(std) or len(mean) == 0:
            raise ValueError(f"mean and std must have one entry a channel, got {len(mean)} and {len(std)}")
        if not all(value > 0 for value in std):
            raise ValueError(f"every standard deviation must be above 0, got {list(std)}")
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels, height, width) to the same shape."""
        return (x - self.mean[:, None, None]) / self.std[:, None, None]


def whole(network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> nn.Sequential:
    """Put the normalisation in front of a network, so that its users need not know the numbers.

    Args:
        network: network for normalised images (batch, channels, height, width).
        mean: (channels,) means of pixels in [0, 1].
        std: (channels,) standard deviations of pixels in [0, 1].

    Returns:
        A module that takes images in [0, 1]; its parts are `normalize` and `network`.
    """
    return nn.Sequential(OrderedDict(normalize=Normalize(mean, std), network=network))
