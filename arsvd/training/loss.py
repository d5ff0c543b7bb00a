"""The classification loss of a pack, one value a member."""

import torch
import torch.nn.functional as F
from torch import Tensor


def pack_loss(
    logits: Tensor,
    labels: Tensor,
    smoothing: Tensor,
    teacher: Tensor | None = None,
    distillation: Tensor | None = None,
    temperature: Tensor | None = None,
) -> Tensor:
    """Cross-entropy with label smoothing, mixed with distillation where there is a teacher.

    Args:
        logits: (members, batch, classes).
        labels: (members, batch) int64.
        smoothing: (members,).
        teacher: (members, batch, classes) logits; None trains on labels alone.
        distillation: (members,) weight of the teacher.
        temperature: (members,).

    Returns:
        (members,) mean losses in nats.

    Source:
        Distillation: Hinton et al. 2015, with its factor T^2 that keeps gradients on one scale. The
        cross-entropy with the softened teacher is used in place of the KL divergence: they differ by a
        constant.
    """
    log_p = F.log_softmax(logits, dim=-1)
    hard = -log_p.gather(-1, labels[..., None])[..., 0].mean(-1)
    loss = (1 - smoothing) * hard - smoothing * log_p.mean((-1, -2))
    if teacher is None or distillation is None or temperature is None:
        return loss
    scale = temperature[:, None, None]
    target = F.softmax(teacher / scale, dim=-1)
    soft = -(target * F.log_softmax(logits / scale, dim=-1)).sum(-1).mean(-1)
    return torch.lerp(loss, soft * temperature**2, distillation)
