"""Train packs of MLPs: many members in one set of tensors, through one loop."""

from arsvd.training.hyperparameters import Hyperparameters
from arsvd.training.images import normalized
from arsvd.training.loop import train
from arsvd.training.measuring import pack_logits
from arsvd.training.pack import Architecture, Pack, architecture_of, dense_architecture, structure
from arsvd.training.result import TrainingResult
from arsvd.training.state import MemberState, StateError

__all__ = [
    "Architecture",
    "Hyperparameters",
    "MemberState",
    "Pack",
    "StateError",
    "TrainingResult",
    "architecture_of",
    "dense_architecture",
    "normalized",
    "pack_logits",
    "structure",
    "train",
]
