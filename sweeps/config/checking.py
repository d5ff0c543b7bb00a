"""The check of a whole mapping, with every fault in plain words."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from arsvd.data.sources import SOURCES
from arsvd.options import Option
from arsvd.options.faults import SHOWN_CHARACTERS, FaultError, listed, nearest, printable, shown
from arsvd.options.forms import Choice
from arsvd.options.kinds import Label, OrNothing, Text
from arsvd.rules import RULES
from sweeps.config.faults import ConfigError
from sweeps.config.on_record import RETIRED
from sweeps.config.options import options
from sweeps.config.schema import SweepConfig


def parse_config(
    mapping: Mapping[str, Any], source: str = "the sweep configuration", faults: Sequence[str] = ()
) -> SweepConfig:
    """Check a mapping with a sweep file's keys.

    Args:
        mapping: content of the file.
        source: name of the file in an error.
        faults: faults found while the file was read; reported with the others.

    Raises:
        ConfigError: something is wrong; the error carries every fault.
    """
    checked = _Checked()
    checked.section("", mapping)
    _settle_dataset(checked)
    _check_rules(checked)
    found = [*faults, *checked.told()]
    if found:
        raise ConfigError(source, found)
    return SweepConfig({key: checked.values[key] for key in options()})


@cache
def known_keys() -> dict[str, Option[Any] | None]:
    """Return every dotted key of a sweep file with its option; None where it is a section."""
    found: dict[str, Option[Any] | None] = {}
    for key, option in options().items():
        parts = key.split(".")
        for depth in range(1, len(parts)):
            found.setdefault(".".join(parts[:depth]), None)
        found[key] = option
    return found


def takes_text(key: str) -> bool:
    """Tell whether a known dotted key holds free text of the user's, such as a path."""
    option = known_keys()[key]
    kind = None if option is None else option.kind
    return isinstance(kind.kind if isinstance(kind, OrNothing) else kind, Label | Text)


def applies(key: str, config: SweepConfig) -> bool:
    """Tell whether a dotted key means anything with a configuration's data set."""
    name: str = config["dataset.name"]
    return _owners().get(key, name) == name


def nearest_key(key: str) -> str | None:
    """Return the known dotted key that an unknown one most likely means, or None."""
    parent, _, leaf = key.rpartition(".")
    match = nearest(leaf, _keys_of(parent))
    if match:
        return f"{parent}.{match}" if parent else match
    same_leaf = [known for known in known_keys() if known.rpartition(".")[2] == leaf]
    if same_leaf:
        return nearest(key, same_leaf) or same_leaf[0]
    return None if not parent or parent in known_keys() else nearest(key, known_keys())


def unknown_key(key: str) -> str:
    """Write the fault of a key that no sweep file has, or has no more."""
    if key in RETIRED:
        return f"{key}: {RETIRED[key]}; remove it"
    match = nearest_key(key)
    if match:
        return f"{key}: unknown key; did you mean {match}?"
    parent = key.rpartition(".")[0]
    while parent and parent not in known_keys():
        parent = parent.rpartition(".")[0]
    return f"{key}: unknown key; {parent or 'a sweep file'} has the keys {listed(_keys_of(parent), 'and')}"


@dataclass
class _Checked:
    """Values and faults found on a walk through a mapping."""

    values: dict[str, Any] = field(default_factory=dict)
    faults: list[tuple[str, str]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    def section(self, parent: str, mapping: Mapping[Any, Any]) -> None:
        """Check the keys of one section; "" is the whole file."""
        prefix = f"{parent}." if parent else ""
        names = _keys_of(parent)
        for name in names:
            key = prefix + name
            option = known_keys()[key]
            if option is not None:
                self._value(option, mapping)
            elif isinstance(mapping.get(name, {}), dict):
                if name not in mapping and (required := _required(key)):
                    self._add(key, f"missing, must be a mapping with at least {listed(required, 'and')}")
                    self.missing.append(key)
                else:
                    self.section(key, mapping.get(name, {}))
            else:
                keys = listed(_keys_of(key), "and")
                self._add(key, f"got {shown(mapping[name])}, must be a mapping with the keys {keys}")
        for name in mapping:
            if name not in names:
                key = printable(f"{prefix}{name}")[:SHOWN_CHARACTERS] or "''"
                self.unknown.append(key)
                self.faults.append((key, unknown_key(key)))

    def told(self) -> Iterator[str]:
        """Yield every fault; a misspelt key is also missing, but its suggestion says that already."""
        meant = {nearest_key(key) for key in self.unknown}
        for key, text in self.faults:
            if key not in self.missing or key not in meant:
                yield text

    def fails(self, key: str, fault: FaultError) -> None:
        """Record a fault."""
        for part, text in fault.parts:
            self.faults.append((key, f"{key}.{part}: {text}" if part else f"{key}: {text}"))
        self.values.pop(key, None)

    def _value(self, option: Option[Any], mapping: Mapping[Any, Any]) -> None:
        key, own = option.key, _own(option)
        if option.name not in mapping or (mapping[option.name] is None and own):
            if option.required and not own:
                self._add(key, f"missing, must be {option.check.allowed}")
                self.missing.append(key)
            else:
                self.values[key] = None if own else option.default
            return
        try:
            self.values[key] = option.check(mapping[option.name])
        except FaultError as fault:
            self.fails(key, fault)

    def _add(self, key: str, text: str) -> None:
        self.faults.append((key, f"{key}: {text}"))


def _keys_of(parent: str) -> list[str]:
    """List the names in a section, including those of its own sections; "" is the whole file."""
    prefix = f"{parent}." if parent else ""
    rests = [key.removeprefix(prefix) for key in known_keys() if key.startswith(prefix)]
    return [rest for rest in rests if "." not in rest]


def _required(section: str) -> list[str]:
    return [
        option.name
        for option in options().values()
        if option.required and not _own(option) and option.key.rpartition(".")[0] == section
    ]


@cache
def _owners() -> dict[str, str]:
    """Map each key that belongs to one data source alone to that source."""
    return {option.key: name for name, source in SOURCES.items() for option in source.options}


def _own(option: Option[Any]) -> bool:
    return option.key in _owners()


def _settle_dataset(checked: _Checked) -> None:
    """Give the settings of the data source their defaults, and refuse those of others."""
    name = checked.values.get("dataset.name")
    if name is None:  # it has a fault of its own
        return
    for key, owner in _owners().items():
        if key not in checked.values:
            continue
        option, given = options()[key], checked.values[key] is not None
        if owner != name and given:
            text = f"is for the data set {owner} only; remove it, since dataset.name is {name}"
            checked.fails(key, FaultError(text))
        elif owner == name and not given and option.required:
            text = f"missing, must be {option.kind.allowed}, since dataset.name is {name}"
            checked.fails(key, FaultError(text))
        elif owner == name and not given:
            checked.values[key] = option.default
    if checked.values.get("name", name) is None and not SOURCES[name].named_by_its_files:
        checked.values["name"] = name


def _check_rules(checked: _Checked) -> None:
    """Refuse a rule that applies to none of the bases."""
    rule, basis = (checked.values.get(f"compression.{name}") for name in ("rule", "basis"))
    if rule is None or basis is None:  # they have faults of their own
        return
    for name in choices(rule):
        bases = RULES[name].bases
        if not set(bases) & set(choices(basis)):
            works = f"which works in the {listed(bases)} basis only; add {listed(bases)} to compression.basis"
            checked.fails("compression.rule", FaultError(f"got {name}, {works}"))


def choices(value: Any) -> tuple[Any, ...]:
    """List every value that a key can take: the options of a choice, else the one plain value."""
    return value.options if isinstance(value, Choice) else (value,)
