"""One training step of a whole pack, from inputs of fixed size: forward, loss, gradients, AdamW."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from arsvd.training.draws import Draws
from arsvd.training.hyperparameters import Hyperparameters
from arsvd.training.images import Images
from arsvd.training.loss import pack_loss
from arsvd.training.optimizer import PackAdamW
from arsvd.training.pack import Pack


@dataclass(frozen=True)
class StepInputs:
    """All that differs from step to step.

    Attributes:
        chosen: (members or 1, batch) sample numbers; 1 where all members see the same images.
        mirrored: (members or 1, batch) which images are mirrored; None where flips are off.
        coefficients: (4,) the optimizer's, see `PackAdamW.coefficients`.
    """

    chosen: Tensor
    mirrored: Tensor | None
    coefficients: Tensor


class TrainingStep:
    """Moves every member once. It never waits for the device, so it can be captured in a CUDA graph.

    Args:
        pack: the members' weights; they are changed.
        images: to train on.
        members: one a member.
        draws: whose dropout masks are used.
        teacher: (teachers, flips, samples, classes) logits, or None.
        taught_by: (members,) whose logits each member learns from.
        half: whether matrix products are made in bfloat16, by autocast.

    Attributes:
        optimizer: of the pack.
        losses: (members,) sums over the steps since they were last set to 0.
    """

    def __init__(
        self,
        pack: Pack,
        images: Images,
        members: Sequence[Hyperparameters],
        draws: Draws,
        teacher: Tensor | None,
        taught_by: Sequence[int],
        half: bool,
    ) -> None:
        device, dtype = pack.biases[0].device, pack.biases[0].dtype

        def column(name: str) -> Tensor:
            return torch.tensor([getattr(member, name) for member in members], device=device, dtype=dtype)

        weights = [weight for factors in pack.weights for weight in factors]
        self.optimizer = PackAdamW(weights, pack.biases, column("lr"), column("weight_decay"))
        self.losses = torch.zeros(pack.members, device=device, dtype=dtype)
        self._pack, self._images, self._draws, self._teacher = pack, images, draws, teacher
        self._smoothing = column("label_smoothing")
        self._share, self._temperature = column("distillation"), column("temperature")
        self._half = half
        # one row where all learn from one teacher: its logits are picked once a step then
        rows = taught_by[:1] if len(set(taught_by)) == 1 else taught_by
        self._teachers = torch.tensor(rows, device=device)[:, None]

    def __call__(self, inputs: StepInputs) -> None:
        """Do the step and add its losses to `losses`."""
        batch = self._images.inputs(inputs.chosen, inputs.mirrored, in_place=True)
        masks = self._draws.masks(inputs.chosen.shape[1])
        with self._precision(batch.device):
            logits = self._pack.forward(batch, masks)
        loss = pack_loss(
            logits.to(self.losses.dtype),
            self._images.labels(inputs.chosen).expand(self._pack.members, -1),
            self._smoothing,
            None if self._teacher is None else self._taught(self._teacher, inputs),
            self._share,
            self._temperature,
        )
        gradients = torch.autograd.grad(loss.sum(), self.optimizer.parameters)
        self.optimizer.step(gradients, inputs.coefficients)
        self.losses += loss.detach()

    def _precision(self, device: torch.device) -> contextlib.AbstractContextManager[object]:
        if not self._half:
            return contextlib.nullcontext()
        # every weight is cast once a step anyway, and a cache would keep casts of a captured step alive
        return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)

    def _taught(self, teacher: Tensor, inputs: StepInputs) -> Tensor:
        """Pick the teachers' logits for a batch: (members or 1, batch, classes)."""
        mirrored = inputs.mirrored
        flips = torch.zeros_like(inputs.chosen) if mirrored is None else mirrored.long()
        return teacher[self._teachers, flips, inputs.chosen]
