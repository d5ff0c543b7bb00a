"""Distillation: learning from the answers of another network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from arsvd.options import Option
from arsvd.options.kinds import Number
from arsvd.training.methods.base import TrainingMethod
from arsvd.training.methods.flips import Flips

if TYPE_CHECKING:
    from torch import Tensor

    from arsvd.training.loss import Answers
    from arsvd.training.setup import Setup
    from arsvd.training.step import StepInputs


class Distillation(TrainingMethod):
    """Makes a share of the loss the cross-entropy with a teacher's softened answers; labels have the rest.

    Source:
        Hinton et al. 2015, with its factor T^2 that keeps gradients on one scale. The cross-entropy with the
        softened teacher is used in place of the KL divergence: they differ by a constant.
    """

    name = "distillation"
    options = (
        Option(
            "compression.distillation.weight",
            Number(0, 1),
            "share of the loss that comes from the dense member",
            default=0.9,
            absent=0.0,
            forms=("choice", "uniform"),
        ),
        Option(
            "compression.distillation.temperature",
            Number(0, low_open=True),
            "temperature that softens the answers of both",
            default=2.0,
            absent=2.0,
            forms=("choice", "uniform", "loguniform"),
        ),
    )

    def __init__(self, setup: Setup) -> None:
        import torch

        self._teacher, taught_by = _teachers(setup)
        # a single row where all learn from one teacher: its logits are then picked once per step
        rows = taught_by[:1] if len(set(taught_by)) == 1 else taught_by
        self._taught_by = torch.tensor(rows, device=setup.device)[:, None]
        self._share = setup.column("compression.distillation.weight")
        self._temperature = setup.column("compression.distillation.temperature")

    @classmethod
    def examples(cls) -> tuple[dict[str, Any], ...]:
        """Return distillation as a part of the loss, and as all of it."""
        return (
            {"compression.distillation.weight": 0.4},
            {"compression.distillation.weight": 1.0, "compression.distillation.temperature": 4.0},
        )

    def loss(self, loss: Tensor, answers: Answers, inputs: StepInputs) -> Tensor:
        """Mix the loss with the cross-entropy of the teacher's answers."""
        import torch.nn.functional as F
        from torch import lerp, zeros_like

        mirrored = inputs.drawn.get(Flips.name)
        views = zeros_like(inputs.chosen) if mirrored is None else mirrored.long()
        teacher = answers.laid_out(self._teacher[self._taught_by, views, inputs.chosen])
        scale = self._temperature[:, None, None]
        target = F.softmax(teacher / scale, dim=answers.classes)
        log_p = F.log_softmax(answers.logits / scale, dim=answers.classes)
        soft = -(target * log_p).sum(answers.classes).mean(-1)
        return lerp(loss, soft * self._temperature**2, self._share)


def _teachers(setup: Setup) -> tuple[Tensor, Sequence[int]]:
    """Check the teachers, and return them with the number of each member's teacher.

    Raises:
        ValueError: there is no teacher, or one of another shape or number.
    """
    teacher, taught_by = setup.teacher, setup.taught_by
    count, samples = len(setup.members), len(setup.images)
    views = 1 + any(map(Flips.on, setup.members))
    if teacher is None:
        raise ValueError("a member distils but there are no teacher logits")
    wanted = f"{count} or 1" if taught_by is None else "teachers"
    fits = teacher.ndim == 4 and teacher.shape[1] >= views and teacher.shape[2] == samples
    if not fits or (taught_by is None and teacher.shape[0] not in (1, count)):
        raise ValueError(
            f"the teacher's logits must be ({wanted}, {views}, {samples}, classes), "
            f"got {tuple(teacher.shape)}"
        )
    if taught_by is None:
        return teacher, [0] * count if teacher.shape[0] == 1 else range(count)
    if len(taught_by) != count or not all(0 <= number < teacher.shape[0] for number in taught_by):
        raise ValueError(
            f"each of {count} members needs the number of one of {teacher.shape[0]} teachers, "
            f"got {list(taught_by)}"
        )
    return teacher, taught_by
