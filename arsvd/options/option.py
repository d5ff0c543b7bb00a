"""One setting, declared once: what it may be, what it is when left out, and what it means on record."""

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
    """One setting, by which the sweep file's key, its checks and its comment are made.

    Args:
        key: the dotted name in a sweep file, such as "training.lr".
        kind: what one value must be.
        help: a few words for the comment beside the key.
        default: the value where a sweep file leaves the key out; it may change with a release.
        absent: what a file or record means that was written before the option existed; frozen for ever, since
            the keys of members hash what differs from it. Where it is not given, every one holds the key.
        forms: the searched forms that the key takes; none where it is not searched.
        member: whether it decides how one member is trained, compressed or fine-tuned.
        alike: whether the members of one pack have to agree in it.
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
        """The last part of the key."""
        return self.key.rpartition(".")[2]

    @property
    def field(self) -> str:
        """The name in a member's record: the key without its section."""
        return "_".join(self.key.split(".")[1:])

    @property
    def required(self) -> bool:
        """Whether a sweep file must hold the key."""
        return self.default is REQUIRED

    @property
    def always(self) -> bool:
        """Whether no file or record has ever been without the key."""
        return self.absent is REQUIRED

    @property
    def check(self) -> Kind[Any]:
        """What turns a value of a sweep file into its final form, or raises `FaultError`."""
        return Searchable(self.kind, self.forms) if self.forms else self.kind
