"""What may differ from member to member of one pack."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Hyperparameters:
    """One member's settings.

    Attributes:
        lr: peak learning rate, above 0.
        weight_decay: decoupled decay of the weights (not of the biases), at least 0.
        dropout: probability with which a hidden unit is dropped, in [0, 1).
        label_smoothing: share of the target spread over all classes, in [0, 1).
        seed: of initialisation, order, dropout and flips.
        distillation: weight of the teacher's distribution in the loss, in [0, 1]; the labels have the rest.
        temperature: that softens the teacher's and the member's distributions, above 0.
    """

    lr: float
    weight_decay: float = 0.0
    dropout: float = 0.0
    label_smoothing: float = 0.0
    seed: int = 0
    distillation: float = 0.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        rules = {
            "lr": (self.lr > 0, "above 0"),
            "weight_decay": (self.weight_decay >= 0, "at least 0"),
            "dropout": (0 <= self.dropout < 1, "in [0, 1)"),
            "label_smoothing": (0 <= self.label_smoothing < 1, "in [0, 1)"),
            "distillation": (0 <= self.distillation <= 1, "in [0, 1]"),
            "temperature": (self.temperature > 0, "above 0"),
        }
        faults = [f"{key} must be {allowed}" for key, (holds, allowed) in rules.items() if not holds]
        if faults:
            raise ValueError(f"{'; '.join(faults)}; got {self}")
