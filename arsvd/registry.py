"""Methods of one kind by their names: known without importing them, imported when asked for."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, Generic, TypeVar

from arsvd.options.faults import did_you_mean, listed

T = TypeVar("T")


class UnknownMethodError(ValueError):
    """There is no method of this name; the message says which there are."""


class Registry(Generic[T]):
    """The methods of one kind.

    A line here and a file of its own are all that a method takes. Its module may import neither torch nor
    anything else that takes long: what a method needs for its work it imports in its functions, since every
    reader of a sweep file asks the methods for their options.

    Args:
        kind: what one of them is called in messages, such as "rank rule".
        package: the package of their modules.
        entries: name to "module:attribute" in that package, in the order that people see.
        retired: names of methods that are gone, and why; files on record lose them, new ones are refused.
    """

    def __init__(
        self, kind: str, package: str, entries: Mapping[str, str], retired: Mapping[str, str] | None = None
    ) -> None:
        self.kind, self.package, self.retired = kind, package, dict(retired or {})
        self._entries = dict(entries)
        self._loaded: dict[str, T] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __getitem__(self, name: str) -> T:
        """Import a method.

        Raises:
            UnknownMethodError: there is none of this name.
        """
        if name not in self._entries:
            raise UnknownMethodError(
                f"unknown {self.kind} {name!r}{did_you_mean(name, self._entries)}; there are "
                f"{listed(self._entries, 'and')}"
            )
        if name not in self._loaded:
            module, _, attribute = self._entries[name].partition(":")
            found: Any = getattr(import_module(f"{self.package}.{module}"), attribute)
            self._loaded[name] = found
        return self._loaded[name]

    def find(self, attribute: str) -> T | None:
        """Import the method that its module calls so; None where there is none."""
        for name, place in self._entries.items():
            if place.partition(":")[2] == attribute:
                return self[name]
        return None

    def items(self) -> Iterator[tuple[str, T]]:
        """Import every method, and yield it with its name."""
        for name in self._entries:
            yield name, self[name]

    @property
    def names(self) -> tuple[str, ...]:
        """Every name, in the order that people see."""
        return tuple(self._entries)
