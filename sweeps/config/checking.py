"""From a raw mapping to a `SweepConfig`, or to every fault in it."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from pydantic import PlainValidator, ValidationError

from arsvd.options.faults import SHOWN_CHARACTERS, FaultError, listed, nearest, printable, shown
from arsvd.options.kinds import Label, OrNothing, Text
from sweeps.config.faults import ConfigError
from sweeps.config.on_record import RETIRED
from sweeps.config.schema import Section, SweepConfig

_UNKNOWN = ("extra_forbidden", "invalid_key")  # the second: a key that is no text, from Python only


def parse_config(
    mapping: Mapping[str, Any], source: str = "the configuration", faults: Sequence[str] = ()
) -> SweepConfig:
    """Check a mapping with a sweep file's keys.

    Args:
        mapping: What the file holds.
        source: What to call it in an error.
        faults: Faults found before, while it was read; reported with the others.

    Raises:
        ConfigError: anything is wrong; it carries every fault.
    """
    found = list(faults)
    try:
        config = SweepConfig.model_validate(dict(mapping))
    except ValidationError as error:
        found += _in_plain_words(error)
    if found:
        raise ConfigError(source, found)
    return config


@cache
def known_keys() -> dict[str, type[Section] | None]:
    """Every dotted key of a sweep file, and its section class where it is a section."""
    found: dict[str, type[Section] | None] = {}

    def walk(section: type[Section], prefix: str) -> None:
        for name, field in section.model_fields.items():
            nested = field.annotation
            if isinstance(nested, type) and issubclass(nested, Section):
                found[prefix + name] = nested
                walk(nested, f"{prefix}{name}.")
            else:
                found[prefix + name] = None

    walk(SweepConfig, "")
    return found


def takes_text(key: str) -> bool:
    """Whether a known dotted key holds text of the user's own, such as a path."""
    parent, _, leaf = key.rpartition(".")
    section = known_keys()[parent] if parent else SweepConfig
    kind = _kind(section or SweepConfig, leaf)
    return isinstance(kind.kind if isinstance(kind, OrNothing) else kind, Label | Text)


def nearest_key(key: str) -> str | None:
    """The known dotted key that an unknown one most likely means, or None."""
    parent, _, leaf = key.rpartition(".")
    siblings = [known for known in known_keys() if known.rpartition(".")[0] == parent]
    match = nearest(leaf, [known.rpartition(".")[2] for known in siblings])
    if match:
        return f"{parent}.{match}" if parent else match
    same_leaf = [known for known in known_keys() if known.rpartition(".")[2] == leaf]
    if same_leaf:
        return nearest(key, same_leaf) or same_leaf[0]
    return None if not parent or parent in known_keys() else nearest(key, known_keys())


def unknown_key(key: str) -> str:
    """The fault of a key that no sweep file has."""
    if key in RETIRED:
        return f"{key}: {RETIRED[key]}; remove it"
    match = nearest_key(key)
    if match:
        return f"{key}: unknown key; did you mean {match}?"
    parent = key.rpartition(".")[0]
    while parent and parent not in known_keys():
        parent = parent.rpartition(".")[0]
    return f"{key}: unknown key; {parent or 'a sweep file'} has the keys {listed(_keys_of(parent), 'and')}"


def _keys_of(parent: str) -> list[str]:
    section = known_keys().get(parent) if parent else SweepConfig
    return list((section or SweepConfig).model_fields)


def _in_plain_words(error: ValidationError) -> list[str]:
    details = error.errors(include_url=False)
    unknown = {_dotted(detail["loc"]) for detail in details if detail["type"] in _UNKNOWN}
    meant = {nearest_key(key) for key in unknown}
    faults: list[str] = []
    for detail in details:
        key = _dotted(detail["loc"])
        if detail["type"] in _UNKNOWN:
            faults.append(unknown_key(key))
        elif detail["type"] == "missing":
            # a misspelt key is missing too: the suggestion says it already
            if key not in meant:
                faults.append(_missing(key))
        elif isinstance(cause := detail.get("ctx", {}).get("error"), FaultError):
            faults += [f"{key}.{part}: {text}" if part else f"{key}: {text}" for part, text in cause.parts]
        else:
            faults.append(_not_a_section(key, detail["input"]))
    return faults


def _dotted(location: tuple[int | str, ...]) -> str:
    return printable(".".join(str(part) for part in location))[:SHOWN_CHARACTERS] or "''"


def _missing(key: str) -> str:
    section = known_keys()[key]
    if section is None:
        parent, _, leaf = key.rpartition(".")
        owner = known_keys()[parent] if parent else SweepConfig
        return f"{key}: missing, must be {_allowed(owner or SweepConfig, leaf)}"
    required = [name for name, field in section.model_fields.items() if field.is_required()]
    return f"{key}: missing, must be a mapping with at least {listed(required, 'and')}"


def _allowed(section: type[Section], name: str) -> str:
    return str(getattr(_kind(section, name), "allowed", "given"))


def _kind(section: type[Section], name: str) -> Any:
    """What checks the values of a key that is no section."""
    checks = [check for check in section.model_fields[name].metadata if isinstance(check, PlainValidator)]
    return checks[0].func if checks else None


def _not_a_section(key: str, value: object) -> str:
    return f"{key}: got {shown(value)}, must be a mapping with the keys {listed(_keys_of(key), 'and')}"
