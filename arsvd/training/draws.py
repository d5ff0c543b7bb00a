"""What is drawn for each member of a pack: the order of its images, their flips, its dropout.

Everything that is drawn for a member depends on its own seed alone, so that it sees the same in any pack.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

import torch
from torch import Tensor

_T = TypeVar("_T")

_STREAMS = 4  # seeds of one member's streams: order, flips, dropout, and one to spare
ORDER, FLIPS, DROPOUT = 0, 1, 2


class Draws(Protocol):
    """Where a training's random numbers come from.

    Calls come in the order of training: `epoch`, then `at` and `masks` for each of its steps.
    """

    @property
    def kind(self) -> str:
        """Name the scheme: the same seed gives the same numbers in one scheme only."""
        ...

    def epoch(self, number: int) -> tuple[Tensor, Tensor | None]:
        """Draw for an epoch, counted from 0: (members or 1, samples) sample numbers, and flips or None."""
        ...

    def at(self, step: int) -> None:
        """Move to a step, counted from 0 over all epochs."""
        ...

    def masks(self, batch: int) -> list[Tensor] | None:
        """Draw one dropout mask (members, batch, width) per hidden layer; None where nobody drops."""
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


class GeneratorDraws:
    """Draws from three `torch.Generator`s a member, for training on a CPU.

    Args:
        seeds: one a member, or one for all: then every member's state is the same.
        samples: training images.
        flip: whether each image is mirrored left to right with probability 1/2.
        rates: (members,) the probability of dropping a unit; zeros where there is one seed for all.
        widths: per hidden layer, each member's width without padding.
        dtype: of the masks.
    """

    kind = "generators, 16 bits a unit"

    def __init__(
        self,
        seeds: Sequence[int],
        samples: int,
        flip: bool,
        rates: Sequence[float],
        widths: Sequence[Sequence[int]],
        dtype: torch.dtype,
    ) -> None:
        self._samples, self._rates, self._widths, self._dtype = samples, rates, widths, dtype
        streams = {"order": ORDER, "dropout": DROPOUT} | ({"flips": FLIPS} if flip else {})
        self._generators = {
            name: [torch.Generator().manual_seed(seed * _STREAMS + stream) for seed in seeds]
            for name, stream in streams.items()
        }
        self._began: dict[str, list[Tensor]] = {}

    def epoch(self, number: int) -> tuple[Tensor, Tensor | None]:
        """Draw an epoch's order and flips; epochs must come one after the other."""
        per_epoch = [name for name in self._generators if name != "dropout"]
        self._began = {name: [g.get_state() for g in self._generators[name]] for name in per_epoch}
        order = torch.stack([torch.randperm(self._samples, generator=g) for g in self._generators["order"]])
        if "flips" not in self._generators:
            return order, None
        shape, byte = (self._samples,), torch.uint8
        drawn = [torch.randint(0, 2, shape, generator=g, dtype=byte) for g in self._generators["flips"]]
        return order, torch.stack(drawn).bool()

    def at(self, step: int) -> None:
        """Do nothing: the generators know where they are."""

    def masks(self, batch: int) -> list[Tensor] | None:
        """Draw a step's masks."""
        if not any(self._rates):
            return None
        masks = []
        for widths in self._widths:
            if len(widths) == 1:
                masks.append(self._mask(0, batch, widths[0])[None])
                continue
            mask = torch.ones(len(widths), batch, max(widths), dtype=self._dtype)
            for member, (width, rate) in enumerate(zip(widths, self._rates, strict=True)):
                if rate > 0:
                    mask[member, :, :width] = self._mask(member, batch, width)
            masks.append(mask)
        return masks

    def _mask(self, member: int, batch: int, width: int) -> Tensor:
        """Draw one member's mask (batch, width): four units from each 64-bit number, of which 16 bits are
        plenty. `bernoulli_` takes a draw a unit, which was a tenth of a training step."""
        numbers = batch * width
        words = torch.empty(-(-numbers // 4), dtype=torch.int64)
        words.random_(-(2**63), None, generator=self._generators["dropout"][member])
        dropped = min(round(self._rates[member] * 2**16), 2**16 - 1)
        kept = words.view(torch.int16)[:numbers].reshape(batch, width) >= dropped - 2**15
        return kept.to(self._dtype).mul_(2**16 / (2**16 - dropped))

    def state(self, member: int, within_epoch: bool) -> dict[str, Tensor]:
        """Return the generators' states, those of order and flips at the beginning of the epoch."""
        return {
            name: _own(self._began[name], member)
            if within_epoch and name in self._began
            else _own(generators, member).get_state()
            for name, generators in self._generators.items()
        }

    def restore(self, member: int, state: Mapping[str, Tensor]) -> None:
        """Set the generators."""
        if set(state) != set(self._generators):
            raise ValueError(
                f"the state has generators {sorted(state)}, needed are {sorted(self._generators)}"
            )
        for name, generators in self._generators.items():
            try:
                _own(generators, member).set_state(state[name])
            except (RuntimeError, TypeError) as error:
                raise ValueError(f"the state of the generator {name!r} does not fit: {error}") from error


def _own(listed: Sequence[_T], member: int) -> _T:
    """Return a member's entry; one entry is everybody's."""
    return listed[0 if len(listed) == 1 else member]
