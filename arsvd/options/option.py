"""One setting, declared once: what values it takes, its default, and its meaning on record."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from arsvd.options.forms import Searchable
from arsvd.options.kinds import Kind

T = TypeVar("T")


class _Required:
    """Stands for a value that has to be given."""

    def __repr__(self) -> str:
        return "REQUIRED"


REQUIRED: Final[Any] = _Required()


@dataclass(frozen=True)
class Option(Generic[T]):
    """One setting, from which the sweep file's key, its checks and its comment are made.

    Args:
        key: dotted name in a sweep file, such as "training.lr".
        kind: check of one value.
        help: short text for the comment beside the key.
        default: value where a sweep file leaves the key out; it may change with a release.
        absent: value that a file or record means which was written before the option existed; frozen forever,
            since the keys of members hash the values that differ from it. Where it is not given, every file
            and record holds the key.
        forms: searched forms that the key takes; none where it is not searched.
        member: True if it affects how one member is trained, compressed or fine-tuned.
        alike: True if the members of one pack have to agree in it.
        on_record: values that a member's record holds in another way.
    """

    key: str
    kind: Kind[T]
    help: str
    default: Any = REQUIRED
    absent: Any = REQUIRED
    forms: tuple[str, ...] = ()
    member: bool = False
    alike: bool = False
    on_record: Mapping[Any, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Last part of the key."""
        return self.key.rpartition(".")[2]

    @property
    def field(self) -> str:
        """Name in a member's record: the key without its section."""
        return "_".join(self.key.split(".")[1:])

    @property
    def required(self) -> bool:
        """True if a sweep file must hold the key."""
        return self.default is REQUIRED

    @property
    def always(self) -> bool:
        """True if no file or record has ever been without the key."""
        return self.absent is REQUIRED

    @property
    def check(self) -> Kind[Any]:
        """Check that turns a value of a sweep file into its final form, or raises `FaultError`."""
        return Searchable(self.kind, self.forms) if self.forms else self.kind
