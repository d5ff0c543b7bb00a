"""The classification loss of a pack, one value per member."""

import torch.nn.functional as F
from torch import Tensor


class Answers:
    """Members' logits for a batch, laid out for a softmax, with the labels.

    Args:
        logits: (members, batch, classes) numbers.
        labels: (members, batch) int64.

    Attributes:
        logits: logits as given, or with the last two dimensions exchanged, see `laid_out`.
        classes: dimension of the classes, -1 or -2.
        log_p: logarithms of the probabilities, laid out as `logits`.
        labels: labels as given.
    """

    def __init__(self, logits: Tensor, labels: Tensor) -> None:
        self.classes = -2 if logits.is_cpu else -1
        self.logits, self.labels = self.laid_out(logits), labels
        self.log_p = F.log_softmax(self.logits, dim=self.classes)

    def laid_out(self, logits: Tensor) -> Tensor:
        """Lay logits (members or 1, batch, classes) out as is fastest for a softmax on the device.

        A CPU works on the innermost dimension in whole vectors, which ten classes do not fill: with the batch
        innermost a log-softmax of 6 x 256 x 10 takes 22 instead of 236 µs (AVX-512, benchmarks/NOTES.md).
        """
        return logits.mT.contiguous() if self.classes == -2 else logits

    def cross_entropy(self) -> Tensor:
        """Return the mean cross-entropies with the labels in nats: (members,)."""
        return -self.log_p.gather(self.classes, self.labels.unsqueeze(self.classes)).mean((-1, -2))
