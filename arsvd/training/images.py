"""Images on the device as bytes, gathered and normalised batch by batch."""

from collections.abc import Sequence

import torch
from torch import Tensor


class Images:
    """Labelled images, one byte a pixel until they are asked for.

    Args:
        images: (samples, channels, height, width) uint8.
        labels: (samples,) int64.
        mean: (channels,) of pixels in [0, 1].
        std: (channels,).
        dtype: of the inputs.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        mean: Sequence[float],
        std: Sequence[float],
        dtype: torch.dtype = torch.float32,
    ) -> None:
        samples, channels, height, width = images.shape
        self._pixels = images.reshape(samples, -1)
        self._labels = labels
        device = images.device
        per_pixel = torch.ones(channels, height * width, device=device, dtype=torch.float64)
        spread = per_pixel * torch.tensor(std, device=device, dtype=torch.float64)[:, None] * 255
        shift = per_pixel * torch.tensor(mean, device=device, dtype=torch.float64)[:, None] * 255
        self._scale = (1 / spread).reshape(-1).to(dtype)
        self._offset = (-shift / spread).reshape(-1).to(dtype)
        index = torch.arange(channels * height * width, device=device).reshape(channels, height, width)
        self._mirror = index.flip(-1).reshape(-1)

    def __len__(self) -> int:
        return len(self._pixels)

    def inputs(self, chosen: Tensor, mirrored: Tensor | None = None) -> Tensor:
        """Gather and normalise images.

        Args:
            chosen: (members, batch) sample numbers.
            mirrored: (members, batch) whether each is mirrored; none when None.

        Returns:
            (members, batch, features).
        """
        pixels = self._pixels[chosen]
        if mirrored is not None:
            pixels = torch.where(mirrored[..., None], pixels[..., self._mirror], pixels)
        return torch.addcmul(self._offset, pixels.to(self._scale.dtype), self._scale)

    def labels(self, chosen: Tensor) -> Tensor:
        """Gather labels: the shape of `chosen`."""
        return self._labels[chosen]


def normalized(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Turn bytes into what a network without its own normalisation takes.

    Args:
        images: (samples, channels, height, width) uint8.
        mean: (channels,) of pixels in [0, 1].
        std: (channels,).

    Returns:
        (samples, features) float32.
    """
    labels = torch.zeros(len(images), dtype=torch.int64, device=images.device)
    everything = torch.arange(len(images), device=images.device)[None]
    return Images(images, labels, mean, std).inputs(everything)[0]
