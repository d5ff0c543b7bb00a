"""One training configuration, and the key that its record is filed under."""

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from sweeps.config.on_record import ABSENT, ALWAYS, RECORD_VERSION

KEY_DIGITS = 20
# key of the sweep file: the field of a member that it gives a value to
FIELDS = {
    "model.hidden": "hidden",
    "model.factors": "factors",
    "model.dropout": "dropout",
    "training.epochs": "epochs",
    "training.batch_size": "batch_size",
    "training.lr": "lr",
    "training.weight_decay": "weight_decay",
    "training.label_smoothing": "label_smoothing",
    "training.schedule": "schedule",
    "training.flip": "flip",
    "compression.basis": "basis",
    "compression.rule": "rule",
    "compression.energy": "energy",
    "compression.calibration": "calibration",
    "compression.finetune_epochs": "finetune_epochs",
    "compression.finetune_points": "finetune_points",
    "compression.finetune_lr": "finetune_lr",
    "compression.distillation.weight": "distillation_weight",
    "compression.distillation.temperature": "distillation_temperature",
}
# what keys of version 1 hash, whatever fields there are now
_VERSION_1 = (
    *("hidden", "factors", "dropout", "epochs", "batch_size", "lr", "weight_decay", "label_smoothing"),
    *("schedule", "flip", "basis", "rule", "energy", "calibration", "finetune_epochs", "finetune_points"),
    *("finetune_lr", "distillation_weight", "distillation_temperature", "seed"),
)


@dataclass(frozen=True)
class MemberConfig:
    """Everything that decides how one member is trained, compressed and fine-tuned.

    Args:
        hidden: (layers,) widths of the hidden layers.
        factors: Linear factors that each weight is trained as; 1 is plain training.
        dropout: Share of hidden units dropped.
        epochs: Passes over the training images.
        batch_size: Images a step.
        lr: Peak learning rate.
        weight_decay: AdamW's decoupled weight decay.
        label_smoothing: Share of each label spread over all classes.
        schedule: `onecycle` or `cosine`.
        flip: Mirror images at random; None does so for colour images.
        basis: Basis of the asked point, `weight` or `activation`.
        rule: Rank rule of the asked point, `energy` or `entropy`.
        energy: Threshold of the asked point, in (0, 1].
        calibration: Most training images used for the activation basis.
        finetune_epochs: Epochs of recovery; 0 for none.
        finetune_points: Most points of the member's front that are fine-tuned.
        finetune_lr: Peak learning rate of recovery.
        distillation_weight: Share of recovery's loss that comes from the dense member.
        distillation_temperature: Temperature of the dense member's answers.
        seed: Seed of weights, batches and dropout.
    """

    hidden: tuple[int, ...]
    factors: int
    dropout: float
    epochs: int
    batch_size: int
    lr: float
    weight_decay: float
    label_smoothing: float
    schedule: str
    flip: bool | None
    basis: str
    rule: str
    energy: float
    calibration: int
    finetune_epochs: int
    finetune_points: int
    finetune_lr: float
    distillation_weight: float
    distillation_temperature: float
    seed: int

    @property
    def kind(self) -> tuple[object, ...]:
        """What members agree in that are trained in one pack: layers, factors, and the steps of training."""
        return (len(self.hidden), self.factors, self.batch_size, self.epochs, self.schedule, self.flip)

    def values(self) -> dict[str, Any]:
        """All values by field name, as JSON has them: a whole float stays a float, widths are a list."""
        values: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type is float:
                value = float(value)
            values[field.name] = list(value) if isinstance(value, tuple) else value
        return values

    def to_dict(self) -> dict[str, Any]:
        """The values as a record holds them: those that differ from what their absence means."""
        absent = _absent()
        return {
            name: value
            for name, value in self.values().items()
            if name not in absent or getattr(self, name) != absent[name]
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "MemberConfig":
        """Read what `to_dict` wrote, in this release or an earlier one.

        Raises:
            ValueError: a field is unknown, of the wrong type, or missing though its absence means nothing;
                every one is named.
        """
        if not isinstance(values, Mapping):
            raise ValueError(f"not a member's configuration: got {values!r}, must be a mapping")
        known = {field.name: field.type for field in fields(cls)}
        faults = [f"unknown field {name}" for name in values if name not in known]
        values = {**_absent(), **values}
        checked: dict[str, Any] = {}
        for name, kind in known.items():
            if name not in values:
                faults.append(f"missing field {name}")
                continue
            says, fits = _CHECKS[kind]
            if not fits(values[name]):
                faults.append(f"field {name} got {values[name]!r}, must be {says}")
                continue
            checked[name] = _final(kind, values[name])
        if faults:
            raise ValueError("not a member's configuration: " + "; ".join(faults))
        return cls(**checked)

    def key(self, data_hash: str, version: int = RECORD_VERSION) -> str:
        """Name the member's record: equal for equal data, configuration and seed, else different.

        The asked point (basis, rule, threshold) is part of it, since the record holds that point.

        Args:
            data_hash: The data set's content hash.
            version: The version of records that the sweep began with. Keys of version 1 hash each field that
                there was; later ones what differs from its absence, so that a new field leaves them alone.

        Returns:
            20 hexadecimal digits.
        """
        values = self.values()
        member = {name: values[name] for name in _VERSION_1} if version == 1 else self.to_dict()
        content = {"data": data_hash, "member": member}
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:KEY_DIGITS]


def member_value(key: str, value: Any) -> Any:
    """Return what a member has where the sweep file has a value."""
    return None if (key, value) == ("training.flip", "auto") else value


def _absent() -> dict[str, Any]:
    """What each field means that is missing, but for those that no record is without."""
    return {
        field: member_value(key, ABSENT[key]) for key, field in FIELDS.items() if ABSENT[key] is not ALWAYS
    }


def member_seed(search_seed: int, number: int) -> int:
    """Derive a member's seed, the same on every machine and in every run.

    Args:
        search_seed: The sweep's `search.seed`.
        number: The member's Optuna trial number.

    Returns:
        A seed in [0, 2**31).
    """
    digest = hashlib.sha256(f"{search_seed}/{number}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def _is_whole(value: object) -> bool:
    # of at most 64 bits, which NumPy, Optuna and MLflow take
    return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63


def _is_number(value: object) -> bool:
    return _is_whole(value) or (isinstance(value, float) and math.isfinite(value))


def _is_widths(value: object) -> bool:
    return isinstance(value, list | tuple) and len(value) > 0 and all(_is_whole(width) for width in value)


_CHECKS: dict[Any, tuple[str, Callable[[Any], bool]]] = {
    int: ("a whole number", _is_whole),
    float: ("a finite number", _is_number),
    str: ("text", lambda value: isinstance(value, str)),
    bool | None: ("true, false or null", lambda value: value is None or isinstance(value, bool)),
    tuple[int, ...]: ("a list of whole numbers", _is_widths),
}


def _final(kind: Any, value: Any) -> Any:
    if kind is float:
        return float(value)
    return tuple(value) if isinstance(value, list) else value
