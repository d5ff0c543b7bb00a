"""Train packs of MLPs: many members in one set of tensors, through one loop."""

from arsvd.training.hyperparameters import Hyperparameters
from arsvd.training.loop import TrainingResult, pack_logits, train
from arsvd.training.pack import Architecture, Pack, architecture_of, dense_architecture, structure
from arsvd.training.sampling import normalized

__all__ = [
    "Architecture",
    "Hyperparameters",
    "Pack",
    "TrainingResult",
    "architecture_of",
    "dense_architecture",
    "normalized",
    "pack_logits",
    "structure",
    "train",
]
