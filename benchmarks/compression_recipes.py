"""How the compression benchmark trains on each data set; chosen by validation alone."""

from dataclasses import dataclass, replace
from typing import Any

from sweeps.config import MemberConfig


@dataclass(frozen=True)
class Recipe:
    """One data set's reference network and training.

    Attributes:
        source: data set name for `arsvd.data.load`.
        folder: below the data directory, for an image folder; else None.
        validation: images held out.
        plain: how the dense reference is trained.
        lorita: how the reference is trained as products of factors.
        narrow: hidden widths of the further members of the sweep rows, trained as LoRITa factors too.
        tiny: widths of the one hidden layer of the sweep rows' smallest members, trained plainly and without
            dropout at each of `small_rates`.
        small_rates: learning rates tried for small networks; validation chooses.
    """

    source: str
    folder: str | None
    validation: int | float
    plain: MemberConfig
    lorita: MemberConfig
    narrow: tuple[tuple[int, ...], ...]
    tiny: tuple[int, ...]
    small_rates: tuple[float, ...]


def _member(**values: Any) -> MemberConfig:
    defaults: dict[str, Any] = {
        "factors": 1,
        "schedule": "onecycle",
        "flip": None,
        "basis": "loss",
        "rule": "energy",
        "energy": 0.95,
        "calibration": 10_000,
        "finetune_points": 10,
        "finetune_lr": 1e-3,
        "distillation_weight": 0.9,
        "distillation_temperature": 2.0,
        "seed": 0,
    }
    return MemberConfig.from_dict({**defaults, **values})


_DIGITS = _member(
    hidden=[128, 64],
    epochs=30,
    batch_size=64,
    lr=5e-3,
    weight_decay=0.05,
    dropout=0.1,
    label_smoothing=0.0,
    finetune_epochs=10,
    finetune_lr=2e-3,
)
_MNIST = _member(
    hidden=[512, 256],
    epochs=10,
    batch_size=256,
    lr=2e-3,
    weight_decay=0.1,
    dropout=0.2,
    label_smoothing=0.1,
    finetune_epochs=3,
)
_CIFAR10 = _member(
    hidden=[1024, 512],
    epochs=8,
    batch_size=256,
    lr=1e-3,
    weight_decay=0.1,
    dropout=0.1,
    label_smoothing=0.1,
    finetune_epochs=2,
    finetune_lr=5e-4,
)

RECIPES = {
    "digits": Recipe(
        source="digits",
        folder=None,
        validation=0.2,
        plain=_DIGITS,
        lorita=replace(_DIGITS, factors=2, weight_decay=0.1),
        narrow=((64, 32), (48,), (32, 16), (24,), (16,)),
        tiny=(22, 15, 11, 7, 5, 3, 2),
        small_rates=(5e-3, 2e-2),
    ),
    "mnist": Recipe(
        source="mnist",
        folder=None,
        validation=5000,
        plain=_MNIST,
        lorita=replace(_MNIST, factors=2, lr=3e-3, dropout=0.1),
        narrow=((256, 128), (128, 64), (64, 32)),
        tiny=(64, 32, 20, 12, 6),
        small_rates=(2e-3, 6e-3),
    ),
    "cifar10": Recipe(
        source="imagefolder",
        folder="cifar10",
        validation=5000,
        plain=_CIFAR10,
        lorita=replace(_CIFAR10, factors=2, weight_decay=0.3),
        narrow=((512, 256), (256, 128), (128, 64)),
        tiny=(),  # the others are ahead of small dense networks at every size
        small_rates=(1e-3, 3e-3),
    ),
}
