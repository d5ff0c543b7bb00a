"""Training methods that a sweep file can switch on in the training of its members.

A new method is a file here and a line below. Where several methods change the same thing (the loss, the
weights), they do so in this order.
"""

from arsvd.registry import Registry
from arsvd.training.methods.base import TrainingMethod

METHODS: Registry[type[TrainingMethod]] = Registry(
    "training method",
    "arsvd.training.methods",
    {
        "lorita": "lorita:LoRITa",
        "dropout": "dropout:Dropout",
        "flips": "flips:Flips",
        "label_smoothing": "label_smoothing:LabelSmoothing",
        "distillation": "distillation:Distillation",
        "lasso": "lasso:Lasso",
    },
)
