"""The parts of a training, as its methods find them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from arsvd.training.counters import CounterDraws
from arsvd.training.draws import Draws, GeneratorDraws
from arsvd.training.hyperparameters import Hyperparameters
from arsvd.training.images import Images
from arsvd.training.methods import METHODS
from arsvd.training.methods.base import TrainingMethod
from arsvd.training.pack import Pack


@dataclass(frozen=True)
class Setup:
    """A training that is about to begin. Make it with `Setup.of`.

    Attributes:
        pack: members' weights, which the methods may keep.
        images: images to train on.
        members: hyperparameters of each member.
        draws: random numbers, each member's from its own seed.
        teacher: (teachers, views, samples, classes) logits of the training images, or None.
        taught_by: number of each member's teacher, or None for the default.
        kinds: methods that are on for at least one member.
    """

    pack: Pack
    images: Images
    members: Sequence[Hyperparameters]
    draws: Draws
    teacher: Tensor | None
    taught_by: Sequence[int] | None
    kinds: tuple[type[TrainingMethod], ...]

    @classmethod
    def of(
        cls,
        pack: Pack,
        images: Images,
        members: Sequence[Hyperparameters],
        teacher: Tensor | None = None,
        taught_by: Sequence[int] | None = None,
    ) -> "Setup":
        """Find the methods that are on, and seed their random numbers."""
        kinds = tuple(METHODS[name] for name in METHODS if any(map(METHODS[name].on, members)))
        seeds = [member.seed for member in members]
        if len(set(seeds)) == 1 and all(kind.shares_batches(members) for kind in kinds):
            seeds = seeds[:1]  # they see the same images in the same order: drawn and gathered once
        device, dtype = pack.biases[0].device, pack.biases[0].dtype
        draws = CounterDraws(seeds, dtype, device) if device.type == "cuda" else GeneratorDraws(seeds, dtype)
        return cls(pack, images, members, draws, teacher, taught_by, kinds)

    @property
    def device(self) -> torch.device:
        """Device on which the pack is trained."""
        return self.pack.biases[0].device

    def methods(self) -> list[TrainingMethod]:
        """Build the methods that are on.

        Raises:
            ValueError: a method lacks what it needs.
        """
        return [kind(self) for kind in self.kinds]

    def column(self, key: str) -> Tensor:
        """Return each member's value of a method's option: (members,) on the device."""
        like = self.pack.biases[0]
        return torch.tensor([member[key] for member in self.members], device=like.device, dtype=like.dtype)
