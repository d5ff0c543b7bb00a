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
        chosen: (members, batch) sample numbers.
        mirrored: (members, batch) which images are mirrored; None where flips are off.
        coefficients: (3,) the optimizer's, see `PackAdamW.coefficients`.
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
        teacher: (members or 1, flips, samples, classes) logits, or None.
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
        taught = pack.members if teacher is not None and teacher.shape[0] > 1 else 1
        self._rows = torch.arange(taught, device=device)[:, None]

    def __call__(self, inputs: StepInputs) -> None:
        """Do the step and add its losses to `losses`."""
        batch = self._images.inputs(inputs.chosen, inputs.mirrored)
        masks = self._draws.masks(inputs.chosen.shape[1])
        with self._precision(batch.device):
            logits = self._pack.forward(batch, masks)
        loss = pack_loss(
            logits.to(self.losses.dtype),
            self._images.labels(inputs.chosen),
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
        """Pick the teacher's logits for a batch: (members, batch, classes)."""
        mirrored = inputs.mirrored
        flips = torch.zeros_like(inputs.chosen) if mirrored is None else mirrored.long()
        return teacher[self._rows, flips, inputs.chosen]
