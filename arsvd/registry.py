"""Methods of one kind by their names, which are known without importing the methods."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, Generic, TypeVar

from arsvd.options.faults import did_you_mean, listed

T = TypeVar("T")


class UnknownMethodError(ValueError):
    """There is no method of this name; the message lists those there are."""


class Registry(Generic[T]):
    """The methods of one kind.

    A method takes a line here and a file of its own, and nothing else. Its module may import neither torch
    nor anything else that takes long: a method imports what it needs inside its functions, since every reader
    of a sweep file asks the methods for their options.

    Args:
        kind: name for one of them in messages, such as "rank rule".
        package: package of their modules.
        entries: places of the methods by name, as "module:attribute" in that package, in the order shown to
            people.
        retired: reasons for the removal of methods, by name; files on record lose them, new ones are refused.
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
            UnknownMethodError: there is no method of this name.
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
        """Import the method that has this name in its module; None where there is none."""
        for name, place in self._entries.items():
            if place.partition(":")[2] == attribute:
                return self[name]
        return None

    def items(self) -> Iterator[tuple[str, T]]:
        """Import every method, and yield each with its name."""
        for name in self._entries:
            yield name, self[name]

    @property
    def names(self) -> tuple[str, ...]:
        """All names, in the order shown to people."""
        return tuple(self._entries)
