"""Train packs of MLPs: many members in one set of tensors, through one loop.

A name is imported when it is first used: whoever reads a sweep file asks the training methods in this package
for their options, and needs no torch for that.
"""

from typing import TYPE_CHECKING

from arsvd.lazy import lazy_names

if TYPE_CHECKING:
    from arsvd.training.architecture import Architecture, dense_architecture, new_architecture, structure
    from arsvd.training.hyperparameters import Hyperparameters
    from arsvd.training.images import normalized
    from arsvd.training.loop import train
    from arsvd.training.measuring import pack_logits
    from arsvd.training.pack import Pack, architecture_of
    from arsvd.training.result import TrainingResult
    from arsvd.training.state import MemberState, StateError

_PLACES = {
    "architecture": ("Architecture", "dense_architecture", "new_architecture", "structure"),
    "hyperparameters": ("Hyperparameters",),
    "images": ("normalized",),
    "loop": ("train",),
    "measuring": ("pack_logits",),
    "pack": ("Pack", "architecture_of"),
    "result": ("TrainingResult",),
    "state": ("MemberState", "StateError"),
}

__all__ = [
    "Architecture",
    "Hyperparameters",
    "MemberState",
    "Pack",
    "StateError",
    "TrainingResult",
    "architecture_of",
    "dense_architecture",
    "new_architecture",
    "normalized",
    "pack_logits",
    "structure",
    "train",
]


__getattr__ = lazy_names(__name__, _PLACES)
