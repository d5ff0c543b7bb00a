"""Logits of whole packs, and their loss and accuracy on the validation images after each epoch."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from arsvd.data import Dataset, Split
from arsvd.training.images import Images
from arsvd.training.loss import Answers
from arsvd.training.pack import Pack

EVALUATION_ROWS = 8192
EVALUATION_NUMBERS = 2**28  # in one hidden layer of all members; 1 GiB in float32
KEPT_NUMBERS = 2**26  # of normalised validation images, kept from one epoch to the next; 256 MiB in float32


@torch.no_grad()
def pack_logits(pack: Pack, split: Split, dataset: Dataset, mirrored: bool = False) -> Tensor:
    """Compute every member's logits on a split, without dropout.

    Args:
        pack: members to evaluate.
        split: images on the pack's device.
        dataset: data set whose normalisation is used.
        mirrored: True if all images are mirrored.

    Returns:
        (members, samples, classes).
    """
    return _logits(pack, _batches(pack, split, dataset, mirrored))


class Validation:
    """Measures a pack on the validation images after each epoch.

    The images are normalised once where they take little memory: for small networks, normalising takes as
    long as everything else that is done here.

    Args:
        pack: members to measure; their weights may change between measurements.
        dataset: data set on the pack's device.
        weights: function that returns weights to use in place of the pack's.
    """

    def __init__(
        self, pack: Pack, dataset: Dataset, weights: Callable[[], list[list[Tensor]]] | None = None
    ) -> None:
        self._pack, self._dataset = pack, dataset
        self._weights = weights or (lambda: pack.weights)
        split = dataset.validation
        self._labels = split.labels.expand(pack.members, -1)
        few = split.images.numel() <= KEPT_NUMBERS
        self._kept = list(_batches(pack, split, dataset)) if few else None

    @torch.no_grad()
    def measure(self) -> tuple[list[float], list[float]]:
        """Return every member's loss in nats and its accuracy."""
        batches = self._kept or _batches(self._pack, self._dataset.validation, self._dataset)
        logits = _logits(self._pack, batches, self._weights())
        losses = Answers(logits, self._labels).cross_entropy()
        accuracies = (logits.argmax(-1) == self._labels).double().mean(-1)
        return losses.tolist(), accuracies.tolist()


def _logits(
    pack: Pack, batches: Iterable[Tensor], weights: Sequence[Sequence[Tensor]] | None = None
) -> Tensor:
    return torch.cat([pack.forward(batch, weights) for batch in batches], dim=1)


def _batches(pack: Pack, split: Split, dataset: Dataset, mirrored: bool = False) -> Iterator[Tensor]:
    """Yield normalised images (1, rows, features), as many at a time as the pack's activations allow."""
    device, dtype = pack.biases[0].device, pack.biases[0].dtype
    images = Images(split.images, split.labels, dataset.mean, dataset.std, dtype)
    widest = max(bias.shape[-1] for bias in pack.biases)
    rows = max(1, min(EVALUATION_ROWS, EVALUATION_NUMBERS // (pack.members * widest)))
    for chosen in torch.arange(len(split.labels), device=device)[None].split(rows, dim=1):
        yield images.inputs(chosen, (lambda pixels: pixels.flip(-1)) if mirrored else None)
