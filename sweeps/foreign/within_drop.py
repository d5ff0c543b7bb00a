"""The smallest compression of a given model whose loss of accuracy is bounded with confidence."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

import arsvd
from arsvd import Plan, Ranks, Spectra
from arsvd.evaluation.confidence import answers, drop_bound, paired_counts

Labelled = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Confirmation:
    """The results of a choice on rows that had no part in it.

    Attributes:
        rows: number of rows.
        dense_accuracy: accuracy of the given model on them.
        accuracy: accuracy of the chosen model on them.
        bound: loss of accuracy that is not exceeded at the confidence.
        confidence: one-sided confidence that the choice as a whole keeps to the allowed loss.
    """

    rows: int
    dense_accuracy: float
    accuracy: float
    bound: float
    confidence: float

    def __str__(self) -> str:
        return (
            f"{self.dense_accuracy:.2%} -> {self.accuracy:.2%} on {self.rows:,} rows that chose nothing; "
            f"it loses at most {100 * self.bound:.2f} points at {self.confidence:.0%} confidence"
        )


def halves(labelled: Labelled) -> tuple[Labelled, Labelled]:
    """Divide labelled rows at random, always in the same way: one half chooses, the other confirms.

    Args:
        labelled: inputs (rows, …) and labels (rows,), at least 2 rows, in any order.
    """
    inputs, labels = labelled
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    first, second = order[: len(order) // 2].sort().values, order[len(order) // 2 :].sort().values
    return (inputs[first], labels[first]), (inputs[second], labels[second])


def smallest_within(
    network: nn.Module,
    spectra: Spectra,
    choosing: Labelled,
    confirming: Labelled,
    max_drop: float,
    confidence: float,
    multiple: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Plan, Confirmation]:
    """Walk the front from its largest model down, and take the last one before the first that fails.

    The order comes from the rows that choose, so every test on the others has the whole confidence; see
    `arsvd.evaluation.confidence`.

    Args:
        network: model to compress.
        spectra: spectra of the model, from inputs that are not among those that confirm.
        choosing: inputs and labels on which the front is measured.
        confirming: inputs and labels on which the models are tested.
        max_drop: accuracy that may be lost, in [0, 1).
        confidence: one-sided confidence that no more is lost, in [0.5, 1).
        multiple: number that divides every rank.
        progress: function that receives the number of models measured on the rows that choose, and of all to
            be measured.

    Returns:
        The plan and its confirmation.

    Raises:
        ValueError: no smaller model is certain to lose this little.
    """
    points = arsvd.front(network, spectra, choosing, multiple=multiple, progress=progress)
    inputs, labels = confirming
    dense = answers(network, inputs, labels)
    found = None
    highest = -1.0
    for point in sorted((p for p in points if p.family != "dense"), key=lambda p: -p.cost.numbers):
        plan = replace(
            arsvd.plan(spectra, Ranks(point.ranks, family=point.family)), threshold=point.threshold
        )
        right = answers(arsvd.compress(network, spectra, plan), inputs, labels)
        highest = max(highest, drop_bound(*paired_counts(dense, right), len(labels), confidence))
        if highest > max_drop:
            break
        found = plan, Confirmation(len(labels), _share(dense), _share(right), highest, confidence)
    if found is None:
        raise ValueError(_too_much(len(labels), highest, max_drop, confidence))
    return found


def _share(right: Tensor) -> float:
    return int(right.sum()) / len(right)


def _too_much(rows: int, bound: float, max_drop: float, confidence: float) -> str:
    least = drop_bound(0, 0, rows, confidence)  # of a model that answers every row alike
    wanted = f"no smaller model surely loses at most {100 * max_drop:g} points"
    if least > max_drop:
        return (
            f"{wanted}: at {confidence:.0%} confidence {rows:,} rows, half of those given, can show no loss "
            f"below {100 * least:.2f} points; give more rows, a larger --max-drop or a lower --confidence"
        )
    lost = f"; the largest may lose {100 * bound:.2f} at {confidence:.0%} confidence" if bound >= 0 else ""
    return f"{wanted}{lost}: give a larger --max-drop, a lower --confidence or more rows"
