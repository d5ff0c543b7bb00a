"""Random numbers for each member of a pack: the order of its images, and what training methods draw.

Everything that is drawn for a member depends on its own seed alone, so that it is the same in any pack.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

import torch
from torch import Tensor

_T = TypeVar("_T")

_STREAMS = 4  # per member, each for one purpose: order, flips, dropout, and one to spare
ORDER = 0

# maps the number of rows of a batch to one mask (members, batch, width) per hidden layer
Masks = Callable[[int], list[Tensor]]


class Stream(Protocol):
    """Random numbers for one purpose, asked for in the order of training."""

    def orders(self, epoch: int, samples: int) -> Tensor:
        """Draw for an epoch, counted from 0: (members or 1, samples) permutations of the sample numbers."""
        ...

    def coins(self, epoch: int, samples: int) -> Tensor:
        """Draw for an epoch: (members or 1, samples) bool, either with probability 1/2."""
        ...

    def masks(self, rates: Sequence[float], widths: Sequence[Sequence[int]]) -> Masks:
        """Return a function that draws a step's dropout masks, scaled to a mean of 1.

        Args:
            rates: (members,) probabilities of a zero.
            widths: width of each member without padding, per hidden layer.
        """
        ...

    def state(self, member: int, within_epoch: bool) -> dict[str, Tensor]:
        """Return what `restore` needs, to draw the current epoch again or, between epochs, the next one."""
        ...

    def restore(self, member: int, state: Mapping[str, Tensor]) -> None:
        """Continue from a state.

        Raises:
            ValueError: the state is of another kind.
        """
        ...


class Draws(Protocol):
    """The source of a training's random numbers."""

    @property
    def kind(self) -> str:
        """Name the scheme: the same seed gives the same numbers in one scheme only."""
        ...

    def stream(self, number: int) -> Stream:
        """Return the stream for one purpose; each purpose has its own number below 4."""
        ...

    def at(self, step: int) -> None:
        """Move to a step, counted from 0 over all epochs."""
        ...


class GeneratorDraws:
    """Draws from one `torch.Generator` per member and stream, for training on a CPU.

    Args:
        seeds: one seed per member, or a single one for all; then every member's state is the same.
        dtype: type of the masks.
    """

    kind = "generators, 16 bits a unit"

    def __init__(self, seeds: Sequence[int], dtype: torch.dtype) -> None:
        self._seeds, self._dtype = seeds, dtype

    def stream(self, number: int) -> "GeneratorStream":
        """Seed the generators of a stream."""
        return GeneratorStream([seed * _STREAMS + number for seed in self._seeds], self._dtype)

    def at(self, step: int) -> None:
        """Do nothing: the generators know where they are."""


class GeneratorStream:
    """One generator per member, or a single one for all.

    Args:
        seeds: seeds of the generators.
        dtype: type of the masks.
    """

    def __init__(self, seeds: Sequence[int], dtype: torch.dtype) -> None:
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._dtype = dtype
        self._began: list[Tensor] = []

    def orders(self, epoch: int, samples: int) -> Tensor:
        """Draw an epoch's permutations; epochs must come one after the other."""
        return torch.stack([torch.randperm(samples, generator=g) for g in self._beginning()])

    def coins(self, epoch: int, samples: int) -> Tensor:
        """Draw an epoch's coins; epochs must come one after the other."""
        shape, byte = (samples,), torch.uint8
        drawn = [torch.randint(0, 2, shape, generator=g, dtype=byte) for g in self._beginning()]
        return torch.stack(drawn).bool()

    def _beginning(self) -> list[torch.Generator]:
        self._began = [generator.get_state() for generator in self._generators]
        return self._generators

    def masks(self, rates: Sequence[float], widths: Sequence[Sequence[int]]) -> Masks:
        """Return a function that draws a step's masks."""
        return functools.partial(self._masks, rates, widths)

    def _masks(self, rates: Sequence[float], widths: Sequence[Sequence[int]], batch: int) -> list[Tensor]:
        masks = []
        for layer in widths:
            if len(layer) == 1:
                masks.append(self._mask(0, rates[0], batch, layer[0])[None])
                continue
            mask = torch.ones(len(layer), batch, max(layer), dtype=self._dtype)
            for member, (width, rate) in enumerate(zip(layer, rates, strict=True)):
                if rate > 0:
                    mask[member, :, :width] = self._mask(member, rate, batch, width)
            masks.append(mask)
        return masks

    def _mask(self, member: int, rate: float, batch: int, width: int) -> Tensor:
        """Draw one member's mask (batch, width): four units from each 64-bit number, of which 16 bits are
        plenty. `bernoulli_` takes a draw a unit, which was a tenth of a training step."""
        numbers = batch * width
        words = torch.empty(-(-numbers // 4), dtype=torch.int64)
        words.random_(-(2**63), None, generator=self._generators[member])
        dropped = min(round(rate * 2**16), 2**16 - 1)
        kept = words.view(torch.int16)[:numbers].reshape(batch, width) >= dropped - 2**15
        return kept.to(self._dtype).mul_(2**16 / (2**16 - dropped))

    def state(self, member: int, within_epoch: bool) -> dict[str, Tensor]:
        """Return a generator's state; for draws by epoch, the one at the beginning of the epoch."""
        if within_epoch and self._began:
            return {"generator": _own(self._began, member)}
        return {"generator": _own(self._generators, member).get_state()}

    def restore(self, member: int, state: Mapping[str, Tensor]) -> None:
        """Set a generator."""
        if set(state) != {"generator"}:
            raise ValueError(f"the state has {sorted(state)}, needed is a generator")
        try:
            _own(self._generators, member).set_state(state["generator"])
        except (RuntimeError, TypeError) as error:
            raise ValueError(f"the generator's state: {error}") from error


def _own(listed: Sequence[_T], member: int) -> _T:
    """Return a member's entry; a single entry belongs to all."""
    return listed[0 if len(listed) == 1 else member]
