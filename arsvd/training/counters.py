"""Random numbers without a state: a hash of the seed, the step and the place.

`torch.Generator`s cost one launch a member and a step, and a CUDA graph would have to hold all of them. A
hash draws for a whole pack in a few elementwise operations, inside a graph as well as outside of it.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from arsvd.training.draws import DROPOUT, FLIPS, ORDER

_FIRST, _SECOND = 0x85EBCA6B - 2**32, 0xC2B2AE35 - 2**32  # of MurmurHash3, as signed 32-bit integers


def mixed(values: Tensor) -> Tensor:
    """Scatter 32-bit integers over the whole range, one to one.

    Args:
        values: int32, any shape; not changed.

    Returns:
        int32 of the same shape. High bits are as good as low ones.

    Source:
        The finaliser of MurmurHash3 (Appleby 2011). Shifts of int32 drag the sign along, so it is masked.
    """
    found = values ^ ((values >> 16) & 0xFFFF)
    found *= _FIRST
    found ^= (found >> 13) & 0x7FFFF
    found *= _SECOND
    return found.bitwise_xor_((found >> 16) & 0xFFFF)


class CounterDraws:
    """Draws by hashing, for training on CUDA; works on any device.

    Args:
        seeds: one a member, or one for all.
        samples: training images.
        flip: whether each image is mirrored left to right with probability 1/2.
        rates: (members,) the probability of dropping a unit; zeros where there is one seed for all.
        widths: per hidden layer, each member's width without padding.
        dtype: of the masks.
        device: where everything is drawn.
    """

    kind = "counters"

    def __init__(
        self,
        seeds: Sequence[int],
        samples: int,
        flip: bool,
        rates: Sequence[float],
        widths: Sequence[Sequence[int]],
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self._samples, self._flip, self._dtype, self._device = samples, flip, dtype, device
        self._widest = [max(layer) for layer in widths]
        # 62 bits of a seed enter, in two rounds
        low = torch.tensor([_signed(seed) for seed in seeds], dtype=torch.int32, device=device)
        high = torch.tensor([_signed(seed >> 32) for seed in seeds], dtype=torch.int32, device=device)
        self._keys = mixed(mixed(low) ^ high)
        self._step = torch.zeros((), dtype=torch.int32, device=device)
        self._drops = any(rates)
        # a unit is kept where a uniform int32 is not below this
        bounds = [min(round(rate * 2**32) - 2**31, 2**31 - 1) for rate in rates]
        self._bounds = torch.tensor(bounds, dtype=torch.int32, device=device)[:, None, None]
        self._scales = torch.tensor([1 / (1 - rate) for rate in rates], dtype=dtype, device=device)
        self._places: dict[tuple[int, int], Tensor] = {}

    def epoch(self, number: int) -> tuple[Tensor, Tensor | None]:
        """Draw an epoch's order and flips."""
        place = mixed(torch.arange(self._samples, dtype=torch.int32, device=self._device))
        # the hash is one to one, so no two images of a member have equal keys
        order = self._bits(ORDER, number, place).argsort(dim=1)
        if not self._flip:
            return order, None
        return order, self._bits(FLIPS, number, place) < 0

    def at(self, step: int) -> None:
        """Move to a step; may be called between replays of a CUDA graph that holds `masks`."""
        self._step.fill_(_signed(step))

    def masks(self, batch: int) -> list[Tensor] | None:
        """Draw a step's masks. Padded units are drawn too: they are zero whatever the mask says."""
        if not self._drops:
            return None
        step = mixed(self._step + _signed(_stream(DROPOUT)))
        masks = []
        for layer, width in enumerate(self._widest):
            key = mixed(mixed(self._keys ^ step) + _signed(_stream(layer)))
            bits = mixed(self._place(batch, width) ^ key[:, None, None])
            masks.append((bits >= self._bounds).to(self._dtype).mul_(self._scales[:, None, None]))
        return masks

    def state(self, member: int, within_epoch: bool) -> dict[str, Tensor]:
        """Return nothing: seed and step say it all."""
        return {}

    def restore(self, member: int, state: Mapping[str, Tensor]) -> None:
        """Refuse a state that has something in it."""
        if state:
            raise ValueError(f"the state has generators {sorted(state)}, counters need none")

    def _bits(self, stream: int, number: int, place: Tensor) -> Tensor:
        """Draw (members, samples) int32 for an epoch."""
        key = mixed(self._keys ^ _signed(_stream(stream)))
        key = mixed(key + _signed(number))
        return mixed(place ^ key[:, None])

    def _place(self, batch: int, width: int) -> Tensor:
        """Give each unit of each row a number: (batch, width). Equal for a unit in any pack."""
        if (batch, width) not in self._places:
            rows = torch.arange(batch, dtype=torch.int32, device=self._device)[:, None]
            units = torch.arange(width, dtype=torch.int32, device=self._device)
            self._places[batch, width] = mixed(rows * 2**16 + units)
        return self._places[batch, width]


def _stream(number: int) -> int:
    return (number + 1) * 0x9E3779B9  # far apart, so that sums with small counters do not meet


def _signed(value: int) -> int:
    """Take the low 32 bits as a signed integer."""
    return (value + 2**31) % 2**32 - 2**31
