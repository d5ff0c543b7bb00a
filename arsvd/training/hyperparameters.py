"""What may differ from member to member of one pack."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from arsvd.options import Option
from arsvd.options.faults import FaultError, did_you_mean
from arsvd.training.methods import METHODS


@dataclass(frozen=True)
class Hyperparameters:
    """One member's settings.

    Attributes:
        lr: peak learning rate, above 0.
        weight_decay: decoupled decay of the weights (not of the biases), at least 0.
        seed: seed of initialisation, order, dropout and flips.
        settings: values of the training methods' options by their keys, such as "model.dropout". Values that
            equal `Option.absent` are left out.

    Raises:
        ValueError: a value is out of its bounds, or no method has such an option; all faults are named.
    """

    lr: float
    weight_decay: float = 0.0
    seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rules = {
            "lr": (self.lr > 0, "above 0"),
            "weight_decay": (self.weight_decay >= 0, "at least 0"),
        }
        faults = [f"{key} must be {allowed}" for key, (holds, allowed) in rules.items() if not holds]
        try:
            object.__setattr__(self, "settings", checked(self.settings))
        except ValueError as error:
            faults.append(str(error))
        if faults:
            raise ValueError(f"{'; '.join(faults)}; got {self}")

    def __getitem__(self, key: str) -> Any:
        """Return the value of a method's option."""
        return self.settings[key] if key in self.settings else _options()[key].absent


def checked(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Bring training methods' settings to their final types, and leave out those that change nothing.

    Args:
        settings: values by the options' keys.

    Raises:
        ValueError: a value is out of its bounds, or no method has such an option; all faults are named.
    """
    options, found, faults = _options(), {}, []
    for key, value in settings.items():
        if key not in options:
            faults.append(f"no training method has an option {key}{did_you_mean(key, options)}")
            continue
        try:
            found[key] = options[key].kind(value)
        except FaultError as fault:
            faults.append(f"{key}: {fault}{fault.hint}")
            continue
        if found[key] == "auto":
            faults.append(f"{key}: got 'auto', which has to be decided before training")
    if faults:
        raise ValueError("; ".join(faults))
    return {key: found[key] for key in options if key in found and found[key] != options[key].absent}


def _options() -> dict[str, Option[Any]]:
    return {option.key: option for name in METHODS for option in METHODS[name].options}
