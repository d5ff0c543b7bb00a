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
        teacher: (members or 1, batch, classes) logits; None trains on labels alone.
        distillation: (members,) weight of the teacher.
        temperature: (members,).

    Returns:
        (members,) mean losses in nats.

    Source:
        Distillation: Hinton et al. 2015, with its factor T^2 that keeps gradients on one scale. The
        cross-entropy with the softened teacher is used in place of the KL divergence: they differ by a
        constant.
    """
    logits, classes = _for_softmax(logits)
    log_p = F.log_softmax(logits, dim=classes)
    hard = -log_p.gather(classes, labels.unsqueeze(classes)).mean((-1, -2))
    loss = (1 - smoothing) * hard - smoothing * log_p.mean((-1, -2))
    if teacher is None or distillation is None or temperature is None:
        return loss
    scale = temperature[:, None, None]
    target = F.softmax(_for_softmax(teacher)[0] / scale, dim=classes)
    soft = -(target * F.log_softmax(logits / scale, dim=classes)).sum(classes).mean(-1)
    return torch.lerp(loss, soft * temperature**2, distillation)


def _for_softmax(logits: Tensor) -> tuple[Tensor, int]:
    """Lay logits (members, batch, classes) out as the device likes a softmax; with the classes' dimension.

    A CPU works on the innermost dimension in whole vectors, which ten classes do not fill: with the batch
    innermost a log-softmax of 6 x 256 x 10 takes 22 instead of 236 µs (AVX-512, benchmarks/NOTES.md).
    """
    return (logits.mT.contiguous(), -2) if logits.is_cpu else (logits, -1)
