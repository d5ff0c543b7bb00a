"""Images mirrored at random."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from arsvd.options import Option
from arsvd.options.kinds import OneOf
from arsvd.training.methods.base import TrainingMethod

if TYPE_CHECKING:
    from torch import Tensor

    from arsvd.training.hyperparameters import Hyperparameters
    from arsvd.training.setup import Setup
    from arsvd.training.step import StepInputs

_STREAM = 1


class Flips(TrainingMethod):
    """Mirrors each image left to right with probability 1/2, anew in each epoch."""

    name = "flips"
    options = (
        Option(
            "training.flip",
            OneOf[bool | str](("auto", True, False)),
            "mirror images at random; auto does so for colour images",
            default="auto",
            absent=False,
            alike=True,
            on_record={"auto": None},
        ),
    )

    def __init__(self, setup: Setup) -> None:
        import torch

        self._stream, self._samples = setup.draws.stream(_STREAM), len(setup.images)
        on = [self.on(member) for member in setup.members]
        self._on = None if all(on) else torch.tensor(on, device=setup.device)[:, None]

    @classmethod
    def examples(cls) -> tuple[dict[str, Any], ...]:
        """Return the one setting there is."""
        return ({"training.flip": True},)

    @classmethod
    def shares_batches(cls, members: Sequence[Hyperparameters]) -> bool:
        """Tell that members of one seed see the same flips if all of them flip."""
        return all(map(cls.on, members))

    def before_epoch(self, epoch: int) -> Tensor:
        """Draw which images are mirrored."""
        drawn = self._stream.coins(epoch, self._samples)
        return drawn if self._on is None else drawn & self._on

    def inputs(self, pixels: Tensor, inputs: StepInputs) -> Tensor:
        """Pick each image as it is or mirrored."""
        import torch

        # Whole rows are copied, which is fastest on a CPU: picking bytes by an index or a condition takes ten
        # times as long. Nothing here waits for a device.
        rows = torch.arange(len(pixels), device=pixels.device)
        mirrored = inputs.drawn[self.name].reshape(-1)
        return torch.cat([pixels, pixels.flip(-1)]).index_select(0, rows + len(rows) * mirrored)

    def state(self, member: int, within_epoch: bool) -> dict[str, Tensor]:
        """Return the random state."""
        return self._stream.state(member, within_epoch)

    def restore(self, member: int, state: Mapping[str, Tensor]) -> None:
        """Set the random state."""
        self._stream.restore(member, state)
