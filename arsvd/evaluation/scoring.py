"""Compare a classifier's logits with labels."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from arsvd.batches import check_logits


@dataclass(frozen=True)
class Metrics:
    """The scores of a classifier on labelled data.

    Attributes:
        accuracy: share of rows classified right, in [0, 1].
        macro_f1: mean of the classes' F1 scores, in [0, 1]; a class without rows and predictions scores 0.
        loss: mean cross-entropy, in nats.
    """

    accuracy: float
    macro_f1: float
    loss: float


def measure(logits: Tensor, labels: Tensor) -> Metrics:
    """Compare logits with labels.

    Args:
        logits: logits (rows, classes).
        labels: class indices (rows,), of any integer dtype.

    Raises:
        ValueError: there are no rows or a label is not a class.
    """
    check_logits(logits)
    check_labels(labels, *logits.shape)
    return read(scores(logits, labels)[None], len(labels))[0]


def check_labels(labels: Tensor, rows: int, classes: int) -> None:
    """Refuse labels that cannot be compared with logits (rows, classes); this waits for the device.

    Raises:
        ValueError: there are no rows, there is not one whole number per row, or a label is not a class.
    """
    if labels.ndim != 1 or labels.is_floating_point() or labels.is_complex():
        advice = ""
        if labels.ndim == 2:
            advice = f": pass labels{'[:, 0]' if labels.shape[1] == 1 else '.argmax(1) if they are one-hot'}"
        elif labels.ndim == 1:
            advice = ": pass labels.long() if they are classes"
        raise ValueError(
            f"labels must be one whole number a row, got {labels.dtype} "
            f"of shape {tuple(labels.shape)}{advice}"
        )
    if len(labels) == 0 or len(labels) != rows:
        raise ValueError(f"{rows} rows of logits and {len(labels)} labels cannot be compared")
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0 or highest >= classes:
        raise ValueError(f"labels must be in 0 … {classes - 1}, got {lowest} … {highest}")


def scores(logits: Tensor, labels: Tensor) -> Tensor:
    """Compare logits with labels that were checked; nothing here waits for the device.

    Args:
        logits: logits (…, rows, classes), with leading dimensions for several models.
        labels: class indices (rows,), of any integer dtype.

    Returns:
        Scores (…, 3), float64: number of rows classified right, macro F1, mean cross-entropy in nats.
    """
    *models, _, classes = logits.shape
    labels = labels.long()
    # rows innermost: a few classes do not fill a CPU's vector registers, and take four times as long
    turned = logits.float().mT.contiguous()
    places = labels * classes + turned.max(-2).indices  # the first of equal ones, like argmax
    ones = torch.ones_like(places, dtype=torch.float64)
    # not bincount, which asks the device for the largest value; sums of ones are exact in any order
    confusion = ones.new_zeros(*models, classes * classes).scatter_add_(-1, places, ones)
    confusion = confusion.unflatten(-1, (classes, classes))
    right, total = confusion.diagonal(dim1=-2, dim2=-1), confusion.sum(-2) + confusion.sum(-1)
    f1 = torch.where(total > 0, 2 * right / total.clamp_min(1), 0.0)
    log_p = F.log_softmax(turned, dim=-2)
    loss = -log_p.gather(-2, labels.expand(places.shape)[..., None, :])[..., 0, :].double().mean(-1)
    return torch.stack([right.sum(-1), f1.mean(-1), loss], dim=-1)


def read(scored: Tensor, rows: int) -> list[Metrics]:
    """Bring scores (models, 3), measured on `rows` rows, to the host, all in one transfer."""
    return [Metrics(right / rows, f1, loss) for right, f1, loss in scored.tolist()]
