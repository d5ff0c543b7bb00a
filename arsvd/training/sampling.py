"""Which images each member sees, and what is drawn for it: order, flips, dropout.

Everything that is drawn for a member comes from generators of its own, so that a member sees the same in
any pack.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

_STREAMS = 4  # seeds of one member's streams: order, flips, dropout, and one to spare


def _generator(seed: int, stream: int, device: torch.device | str = "cpu") -> torch.Generator:
    return torch.Generator(device).manual_seed(seed * _STREAMS + stream)


class Batches:
    """Images on the device as bytes, in an order of each member's own.

    Args:
        images: (samples, channels, height, width) uint8.
        labels: (samples,) int64.
        mean: (channels,) of pixels in [0, 1].
        std: (channels,).
        seeds: one a member.
        batch_size: images a step; all of them where there are fewer.
        flip: whether each image is mirrored left to right with probability 1/2.
        dtype: of the batches.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        mean: Sequence[float],
        std: Sequence[float],
        seeds: Sequence[int],
        batch_size: int,
        flip: bool,
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
        self._order = [_generator(seed, 0) for seed in seeds]
        self._flips = [_generator(seed, 1) for seed in seeds] if flip else None
        self.batch_size = min(batch_size, samples)
        self.steps = samples // self.batch_size  # a partial batch is left out; the order changes each epoch

    def epoch(self) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor | None]]:
        """Yield inputs (members, batch, features), labels, sample numbers and flips (members, batch)."""
        samples, device = len(self._pixels), self._pixels.device
        order = torch.stack([torch.randperm(samples, generator=g) for g in self._order]).to(device)
        flips = None
        if self._flips is not None:
            drawn = [torch.randint(0, 2, (samples,), generator=g, dtype=torch.uint8) for g in self._flips]
            flips = torch.stack(drawn).bool().to(device)
        for start in range(0, self.steps * self.batch_size, self.batch_size):
            chosen = order[:, start : start + self.batch_size]
            mirrored = None if flips is None else flips[:, start : start + self.batch_size]
            yield self.inputs(chosen, mirrored), self._labels[chosen], chosen, mirrored

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


class Dropout:
    """Dropout masks, each member's from its own generator and for its own widths.

    Args:
        rates: (members,) the probability of dropping a unit.
        seeds: one a member.
        widths: per hidden layer, each member's width without padding.
        device: where the masks live.
        dtype: of the masks.
    """

    def __init__(
        self,
        rates: Sequence[float],
        seeds: Sequence[int],
        widths: Sequence[Sequence[int]],
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self._rates, self._widths = rates, widths
        self._generators = [_generator(seed, 2, device) for seed in seeds]
        self._device, self._dtype = device, dtype

    def masks(self, batch: int) -> list[Tensor] | None:
        """Draw one mask (members, batch, width) per hidden layer; None where nobody drops anything."""
        if not any(self._rates):
            return None
        masks = []
        for widths in self._widths:
            mask = torch.ones(len(widths), batch, max(widths), device=self._device, dtype=self._dtype)
            for member, (width, rate) in enumerate(zip(widths, self._rates, strict=True)):
                if rate > 0:
                    kept = torch.empty(batch, width, device=self._device, dtype=self._dtype)
                    kept.bernoulli_(1 - rate, generator=self._generators[member])
                    mask[member, :, :width] = kept.div_(1 - rate)
            masks.append(mask)
        return masks


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
    return Batches(images, labels, mean, std, [0], 1, False).inputs(everything)[0]
