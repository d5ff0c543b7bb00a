"""One training configuration, and the key that its record is filed under."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, make_dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, cast

from arsvd.options import Option
from arsvd.options.faults import FaultError
from arsvd.options.kinds import Number, OneOf, Whole
from sweeps.config.on_record import RECORD_VERSION
from sweeps.config.options import member_options

KEY_DIGITS = 20
# what keys of version 1 hash, whatever fields there are now
_VERSION_1 = (
    *("hidden", "factors", "dropout", "epochs", "batch_size", "lr", "weight_decay", "label_smoothing"),
    *("schedule", "flip", "basis", "rule", "energy", "calibration", "finetune_epochs", "finetune_points"),
    *("finetune_lr", "distillation_weight", "distillation_temperature", "seed"),
)
# what NumPy, Optuna and MLflow take
_SEED = Option("member.seed", Whole(0, 2**63 - 1), "of weights, batches and dropout")


def member_value(option: Option[Any], value: Any) -> Any:
    """Return what a member has where the sweep file has a value."""
    return option.on_record.get(value, value) if option.on_record else value


@dataclass(frozen=True)
class _Member:
    """What a member can be asked; `member_class` gives it its fields.

    Attributes:
        declared: the option of each field.
    """

    declared: ClassVar[Mapping[str, Option[Any]]] = {}

    if TYPE_CHECKING:

        def __init__(self, **values: Any) -> None: ...

        def __getattr__(self, name: str) -> Any: ...

    @property
    def kind(self) -> tuple[object, ...]:
        """What members agree in that are trained in one pack: layers, factors, and the steps of training."""
        alike = (getattr(self, name) for name, option in self.declared.items() if option.alike)
        return (len(self.hidden), *alike)

    def replaced(self, **changes: Any) -> "MemberConfig":
        """Return a member with other values.

        Args:
            changes: Field to value.
        """
        changed: Any = replace(self, **changes)
        return cast("MemberConfig", changed)

    def values(self) -> dict[str, Any]:
        """All values by field name, as JSON has them: a whole float stays a float, widths are a list."""
        values: dict[str, Any] = {}
        for name, option in self.declared.items():
            value = getattr(self, name)
            value = float(value) if isinstance(option.kind, Number) else value
            values[name] = list(value) if isinstance(value, tuple) else value
        return values

    def to_dict(self) -> dict[str, Any]:
        """The values as a record holds them: those that differ from what their absence means."""
        absent = self._absent()
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
        faults = [f"unknown field {name}" for name in values if name not in cls.declared]
        values = {**cls._absent(), **values}
        checked: dict[str, Any] = {}
        for name, option in cls.declared.items():
            if name not in values:
                faults.append(f"missing field {name}")
                continue
            try:
                checked[name] = _recorded(option, values[name])
            except FaultError as fault:
                faults.append(f"field {name} {fault}")
        if faults:
            raise ValueError("not a member's configuration: " + "; ".join(faults))
        return cast("MemberConfig", cls(**checked))

    @classmethod
    def _absent(cls) -> dict[str, Any]:
        """What each field means that is missing, but for those that no record is without."""
        return {
            name: member_value(option, option.absent)
            for name, option in cls.declared.items()
            if not option.always
        }

    def key(self, data_hash: str, version: int = RECORD_VERSION) -> str:
        """Name the member's record: equal for equal data, configuration and seed, else different.

        The asked point (basis, rule, threshold) is part of it, since the record holds that point.

        Args:
            data_hash: The data set's content hash.
            version: The version of records that the sweep began with. Keys hash what differs from its
                absence, so that a new field leaves them alone; those of version 1 each field that there was
                as well.

        Returns:
            20 hexadecimal digits.
        """
        member = self.to_dict()
        if version == 1:
            values = self.values()
            member |= {name: values[name] for name in _VERSION_1}
        content = {"data": data_hash, "member": member}
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:KEY_DIGITS]


def member_class(declared: Mapping[str, Option[Any]]) -> type[_Member]:
    """Make the class of members that have some options.

    Args:
        declared: the option of each field, but for the seed, which every member has. A field that is not
            given means what its absence on record means.
    """
    return make_dataclass(
        "MemberConfig",
        [
            *(
                (name, Any)
                if option.always
                else (name, Any, field(default=member_value(option, option.absent)))
                for name, option in declared.items()
            ),
            ("seed", Any),
        ],
        kw_only=True,
        bases=(_Member,),
        frozen=True,
        namespace={
            "__doc__": "Everything that decides how one member is trained, compressed and fine-tuned.",
            "__module__": __name__,
            "declared": {**declared, "seed": _SEED},
        },
    )


if TYPE_CHECKING:

    class MemberConfig(_Member):
        """Everything that decides how one member is trained, compressed and fine-tuned."""

else:
    MemberConfig = member_class(member_options())


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


def _recorded(option: Option[Any], value: Any) -> Any:
    """Check a value on record; a name may be that of a method which is gone."""
    if option.on_record and value in option.on_record.values():
        return value
    if isinstance(option.kind, OneOf) and isinstance(value, str):
        return value
    return option.kind(value)
