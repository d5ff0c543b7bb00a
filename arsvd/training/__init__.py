"""Train packs of MLPs: many members in one set of tensors, through one loop."""

from arsvd.training.hyperparameters import Hyperparameters
from arsvd.training.loop import TrainingResult, train
from arsvd.training.pack import Architecture, Pack, architecture_of, dense_architecture

__all__ = [
    "Architecture",
    "Hyperparameters",
    "Pack",
    "TrainingResult",
    "architecture_of",
    "dense_architecture",
    "train",
]
