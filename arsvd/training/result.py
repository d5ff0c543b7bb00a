"""The results of training a pack, besides the weights."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

CURVES = ("train_loss", "validation_loss", "validation_accuracy", "lr")


@dataclass
class TrainingResult:
    """The results of training a pack; the weights are in the pack.

    Attributes:
        curves: one dict per member with a value per epoch: "train_loss", "validation_loss" in nats,
            "validation_accuracy" in [0, 1], "lr" the rate at the epoch's end.
        failures: causes by member, for members whose loss was not finite. Their curves end there.
        epochs: number of epochs done.
        seconds: share of each member in the pack's time, including the time before it was resumed.
    """

    curves: list[dict[str, list[float]]]
    failures: dict[int, str] = field(default_factory=dict)
    epochs: int = 0
    seconds: list[float] = field(default_factory=list)

    @classmethod
    def empty(cls, members: int) -> "TrainingResult":
        """Return the result of a training that has not begun."""
        return cls([{key: [] for key in CURVES} for _ in range(members)], seconds=[0.0] * members)

    def add_epoch(
        self,
        train_losses: Sequence[float],
        losses: Sequence[float],
        accuracies: Sequence[float],
        rates: Sequence[float],
    ) -> None:
        """Extend the curves of members that have not failed; those whose losses are not finite fail now."""
        self.epochs += 1
        for member, values in enumerate(zip(train_losses, losses, accuracies, rates, strict=True)):
            if member in self.failures:
                continue
            if not (math.isfinite(values[0]) and math.isfinite(values[1])):
                self.failures[member] = (
                    f"the loss was not finite in epoch {self.epochs} "
                    f"(training {values[0]}, validation {values[1]}); a lower learning rate may help"
                )
                continue
            for key, value in zip(CURVES, values, strict=True):
                self.curves[member][key].append(value)
