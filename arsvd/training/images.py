"""Images on the device as bytes, gathered and normalised batch by batch."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


class Images:
    """Labelled images, stored as one byte per pixel until they are requested.

    Args:
        images: (samples, channels, height, width) uint8.
        labels: (samples,) int64.
        mean: (channels,) means of pixels in [0, 1].
        std: (channels,) standard deviations of pixels in [0, 1].
        dtype: type of the inputs.
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
        self._pixels, self._shape = images.reshape(samples, -1), images.shape[1:]
        self._labels = labels
        device = images.device
        per_pixel = torch.ones(channels, height * width, device=device, dtype=torch.float64)
        spread = per_pixel * torch.tensor(std, device=device, dtype=torch.float64)[:, None] * 255
        shift = per_pixel * torch.tensor(mean, device=device, dtype=torch.float64)[:, None] * 255
        self._scale = (1 / spread).reshape(-1).to(dtype)
        self._offset = (-shift / spread).reshape(-1).to(dtype)
        self._places: dict[int, tuple[Tensor, Tensor]] = {}

    def __len__(self) -> int:
        return len(self._pixels)

    def inputs(
        self, chosen: Tensor, change: Callable[[Tensor], Tensor] | None = None, in_place: bool = False
    ) -> Tensor:
        """Gather and normalise images.

        Args:
            chosen: (members, batch) sample numbers.
            change: function that is applied to the images (rows, channels, height, width) as bytes; None for
                no change.
            in_place: True if the result may overwrite the previous result of its size. Where one batch
                follows another this halves the time: new memory has to be mapped first, and is in no cache.

        Returns:
            (members, batch, features).
        """
        pixels, numbers = self._memory(chosen.numel(), in_place)
        torch.index_select(self._pixels, 0, chosen.reshape(-1), out=pixels)
        if change is not None:
            pixels = change(pixels.reshape(-1, *self._shape)).reshape(numbers.shape)
        numbers.copy_(pixels)
        torch.addcmul(self._offset, numbers, self._scale, out=numbers)
        return numbers.reshape(*chosen.shape, -1)

    def _memory(self, count: int, in_place: bool) -> tuple[Tensor, Tensor]:
        """Return memory for this many images, as bytes and as numbers."""
        if in_place and count in self._places:
            return self._places[count]
        pixels = self._pixels.new_empty(count, self._pixels.shape[1])
        found = pixels, torch.empty_like(pixels, dtype=self._scale.dtype)
        if in_place:
            self._places = {count: found}
        return found

    def labels(self, chosen: Tensor) -> Tensor:
        """Gather labels, in the shape of `chosen`."""
        return self._labels[chosen]


def normalized(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Turn bytes into what a network without its own normalisation takes.

    Args:
        images: (samples, channels, height, width) uint8.
        mean: (channels,) means of pixels in [0, 1].
        std: (channels,) standard deviations of pixels in [0, 1].

    Returns:
        (samples, features) float32.
    """
    labels = torch.zeros(len(images), dtype=torch.int64, device=images.device)
    everything = torch.arange(len(images), device=images.device)[None]
    return Images(images, labels, mean, std).inputs(everything)[0]
