"""One training configuration, and the key under which its record is filed."""

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
# hashed by keys of version 1, whatever fields there are now
_VERSION_1 = (
    *("hidden", "factors", "dropout", "epochs", "batch_size", "lr", "weight_decay", "label_smoothing"),
    *("schedule", "flip", "basis", "rule", "energy", "calibration", "finetune_epochs", "finetune_points"),
    *("finetune_lr", "distillation_weight", "distillation_temperature", "seed"),
)
# accepted by NumPy, Optuna and MLflow
_SEED = Option("member.seed", Whole(0, 2**63 - 1), "of weights, batches and dropout")


def member_value(option: Option[Any], value: Any) -> Any:
    """Return a member's value for a value of the sweep file."""
    return option.on_record.get(value, value) if option.on_record else value


@dataclass(frozen=True)
class _Member:
    """The methods of a member; `member_class` gives it its fields.

    Attributes:
        declared: option of each field, by its name.
    """

    declared: ClassVar[Mapping[str, Option[Any]]] = {}

    if TYPE_CHECKING:

        def __init__(self, **values: Any) -> None: ...

        def __getattr__(self, name: str) -> Any: ...

    @property
    def kind(self) -> tuple[object, ...]:
        """Values in which members of one pack agree: layers, factors, and the steps of training."""
        alike = (getattr(self, name) for name, option in self.declared.items() if option.alike)
        return (len(self.hidden), *alike)

    def replaced(self, **changes: Any) -> "MemberConfig":
        """Return a member with other values.

        Args:
            changes: new values by field name.
        """
        changed: Any = replace(self, **changes)
        return cast("MemberConfig", changed)

    def values(self) -> dict[str, Any]:
        """Return all values by field name, as in JSON: a whole float stays a float, widths are a list."""
        values: dict[str, Any] = {}
        for name, option in self.declared.items():
            value = getattr(self, name)
            value = float(value) if isinstance(option.kind, Number) else value
            values[name] = list(value) if isinstance(value, tuple) else value
        return values

    def to_dict(self) -> dict[str, Any]:
        """Return the values as a record holds them: those that differ from the meaning of their absence."""
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
                all of them are named.
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
        """Return the meaning of each absent field, except for those that every record holds."""
        return {
            name: member_value(option, option.absent)
            for name, option in cls.declared.items()
            if not option.always
        }

    def key(self, data_hash: str, version: int = RECORD_VERSION) -> str:
        """Name the member's record: equal for equal data, configuration and seed, otherwise different.

        The requested point (basis, rule, threshold) is part of it, since the record holds that point.

        Args:
            data_hash: content hash of the data set.
            version: version of records that the sweep began with. Keys hash the values that differ from the
                meaning of their absence, so that a new field leaves keys unchanged; keys of version 1 also
                hash each field that existed then.

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
    """Make the class of members that have the given options.

    Args:
        declared: option of each field, except for the seed, which every member has. A field that is not given
            has the meaning of its absence on record.
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
        search_seed: value of the sweep's `search.seed`.
        number: number of the member's Optuna trial.

    Returns:
        A seed in [0, 2**31).
    """
    digest = hashlib.sha256(f"{search_seed}/{number}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def _recorded(option: Option[Any], value: Any) -> Any:
    """Check a value on record; a name may be that of a method that no longer exists."""
    if option.on_record and value in option.on_record.values():
        return value
    if isinstance(option.kind, OneOf) and isinstance(value, str):
        return value
    return option.kind(value)
