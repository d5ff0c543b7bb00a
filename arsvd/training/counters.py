"""Stateless random numbers: a hash of the seed, the step and the place.

`torch.Generator`s cost one launch per member and step, and a CUDA graph would have to hold all of them. A
hash draws for a whole pack in a few elementwise operations, inside a graph as well as outside.
"""

import functools
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from arsvd.training.draws import Masks

_FIRST, _SECOND = 0x85EBCA6B - 2**32, 0xC2B2AE35 - 2**32  # of MurmurHash3, as signed 32-bit integers


def mixed(values: Tensor) -> Tensor:
    """Scatter 32-bit integers over the whole range, one to one.

    Args:
        values: int32 numbers of any shape; not changed.

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
        seeds: one seed per member, or a single one for all.
        dtype: type of the masks.
        device: device on which everything is drawn.
    """

    kind = "counters"

    def __init__(self, seeds: Sequence[int], dtype: torch.dtype, device: torch.device) -> None:
        # 62 bits of a seed enter, in two rounds
        low = torch.tensor([_signed(seed) for seed in seeds], dtype=torch.int32, device=device)
        high = torch.tensor([_signed(seed >> 32) for seed in seeds], dtype=torch.int32, device=device)
        self._keys = mixed(mixed(low) ^ high)
        self._step = torch.zeros((), dtype=torch.int32, device=device)
        self._dtype = dtype

    def stream(self, number: int) -> "CounterStream":
        """Return a stream; all streams move with the step."""
        return CounterStream(self._keys, self._step, number, self._dtype)

    def at(self, step: int) -> None:
        """Move to a step; this may be called between replays of a CUDA graph that holds masks."""
        self._step.fill_(_signed(step))


class CounterStream:
    """The hashes for one purpose.

    Args:
        keys: int32 hashes of the seeds, (members,) or (1,).
        step: scalar int32, the step, changed from outside.
        number: number of the purpose.
        dtype: type of the masks.
    """

    def __init__(self, keys: Tensor, step: Tensor, number: int, dtype: torch.dtype) -> None:
        self._keys, self._step, self._dtype = keys, step, dtype
        self._number = _signed(_stream(number))
        self._places: dict[tuple[int, int], Tensor] = {}

    def orders(self, epoch: int, samples: int) -> Tensor:
        """Draw an epoch's permutations."""
        # the hash is one to one, so no two images of a member have equal keys
        return self._bits(epoch, samples).argsort(dim=1)

    def coins(self, epoch: int, samples: int) -> Tensor:
        """Draw an epoch's coins."""
        return self._bits(epoch, samples) < 0

    def _bits(self, epoch: int, samples: int) -> Tensor:
        """Draw (members, samples) int32 for an epoch."""
        place = mixed(torch.arange(samples, dtype=torch.int32, device=self._keys.device))
        key = mixed(mixed(self._keys ^ self._number) + _signed(epoch))
        return mixed(place ^ key[:, None])

    def masks(self, rates: Sequence[float], widths: Sequence[Sequence[int]]) -> Masks:
        """Return a function that draws a step's masks, also for padded units, which stay zero in any case."""
        device = self._keys.device
        # a unit is kept where a uniform int32 is not below this
        bounds = [min(round(rate * 2**32) - 2**31, 2**31 - 1) for rate in rates]
        return functools.partial(
            self._masks,
            torch.tensor(bounds, dtype=torch.int32, device=device)[:, None, None],
            torch.tensor([1 / (1 - rate) for rate in rates], dtype=self._dtype, device=device)[:, None, None],
            [max(layer) for layer in widths],
        )

    def _masks(self, bounds: Tensor, scales: Tensor, widest: Sequence[int], batch: int) -> list[Tensor]:
        step = mixed(self._step + self._number)
        masks = []
        for layer, width in enumerate(widest):
            key = mixed(mixed(self._keys ^ step) + _signed(_stream(layer)))
            bits = mixed(self._place(batch, width) ^ key[:, None, None])
            masks.append((bits >= bounds).to(self._dtype).mul_(scales))
        return masks

    def _place(self, batch: int, width: int) -> Tensor:
        """Give each unit of each row a number: (batch, width). Equal for a unit in any pack."""
        if (batch, width) not in self._places:
            device = self._keys.device
            rows = torch.arange(batch, dtype=torch.int32, device=device)[:, None]
            units = torch.arange(width, dtype=torch.int32, device=device)
            self._places[batch, width] = mixed(rows * 2**16 + units)
        return self._places[batch, width]

    def state(self, member: int, within_epoch: bool) -> dict[str, Tensor]:
        """Return nothing: the seed and the step determine everything."""
        return {}

    def restore(self, member: int, state: Mapping[str, Tensor]) -> None:
        """Refuse a state that is not empty."""
        if state:
            raise ValueError(f"the state has {sorted(state)}, counters need none")


def _stream(number: int) -> int:
    return (number + 1) * 0x9E3779B9  # far apart, so that sums with small counters do not collide


def _signed(value: int) -> int:
    """Take the low 32 bits as a signed integer."""
    return (value + 2**31) % 2**32 - 2**31
