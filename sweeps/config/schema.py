"""A checked sweep file: the value of each key, read by section or by the whole key."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sweeps.config.options import options


@dataclass(frozen=True)
class Section:
    """The keys of one section, each an attribute.

    Args:
        values: values by name; an inner section's is a `Section`.
    """

    values: Mapping[str, Any]

    def __getattr__(self, name: str) -> Any:
        values = {} if name.startswith("__") else self.values
        if name not in values:
            raise AttributeError(f"there is no {name!r} in this section of a sweep file")
        return values[name]


@dataclass(frozen=True)
class SweepConfig:
    """One whole sweep file, checked. `load_config` and `parse_config` make it, and name every fault.

    A section is an attribute, and so are its keys: `config.search.trials`.

    Args:
        values: values by dotted key, for every key there is; None for a key that belongs to another data set.
    """

    values: Mapping[str, Any]

    def __hash__(self) -> int:
        return hash(tuple(self.values.items()))

    def __getitem__(self, key: str) -> Any:
        return self.values[key]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "values":
            raise AttributeError(name)
        found = nested(self.values).get(name, self)
        if found is self:
            raise AttributeError(f"a sweep file has no section {name!r}")
        return _sections(found) if isinstance(found, dict) else found

    def replaced(self, changes: Mapping[str, Any]) -> "SweepConfig":
        """Return a configuration with other values, which are in their final form and are not checked again.

        Args:
            changes: new values by dotted key.

        Raises:
            KeyError: there is no such key.
        """
        if unknown := changes.keys() - options().keys():
            raise KeyError(f"a sweep file has no {', '.join(sorted(unknown))}")
        return SweepConfig({**self.values, **changes})


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Turn dotted keys into sections inside sections."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        *parents, name = key.split(".")
        section = found
        for parent in parents:
            section = section.setdefault(parent, {})
        section[name] = value
    return found


def _sections(values: dict[str, Any]) -> Section:
    return Section({name: _sections(one) if isinstance(one, dict) else one for name, one in values.items()})
