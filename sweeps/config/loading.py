"""Sweep files and overrides into a `SweepConfig`, and back into text."""

import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from arsvd.files.opening import open_file
from arsvd.options import Option
from arsvd.options.faults import SHOWN_CHARACTERS, did_you_mean, listed, printable, shown
from arsvd.options.forms import Choice, EnergyRange, IntRange, LogUniform, Uniform
from arsvd.options.kinds import DistinctNames, OneOf
from sweeps.config.checking import applies, known_keys, parse_config, takes_text, unknown_key
from sweeps.config.faults import ConfigError
from sweeps.config.on_record import settle
from sweeps.config.options import options
from sweeps.config.schema import SweepConfig, nested
from sweeps.config.yaml_text import YamlTextError, read_value, read_yaml, write_yaml

MOST_BYTES = 1_000_000
_SUFFIX = ".yaml"


def load_config(source: str | Path, overrides: Sequence[str] = (), on_record: bool = False) -> SweepConfig:
    """Read a sweep file, apply overrides and check the result.

    Args:
        source: path of a file, or the name of a bundled one; `./mnist` is a file even where `mnist` is
            bundled.
        overrides: texts of the form `section.key=value`, such as `search.trials=16`. Everything after the =
            is the value: for a key that holds text it is taken as typed, for others it is read by
            `read_value`. An empty value leaves the key out. Spaces around the = are ignored if one precedes
            it; otherwise those after it belong to the value. If two set the same key, the later one applies.
        on_record: True for the file of an existing sweep, which may be older than some keys and have some
            that no longer exist.

    Raises:
        ConfigError: the file cannot be read, or holds faults; the error carries every one of them.
    """
    label, data = _read(source)
    mapping, faults = _mapping(label, data)
    if on_record:
        settle(mapping)
    for override in overrides:
        faults += _apply(mapping, override)
    return parse_config(mapping, label + (" with its overrides" if overrides else ""), faults)


def bundled_configs() -> tuple[str, ...]:
    """List the names of the sweep files that come with the package."""
    folder = resources.files("sweeps") / "configs"
    names = [entry.name for entry in folder.iterdir() if entry.name.endswith(_SUFFIX)]
    return tuple(sorted(name.removesuffix(_SUFFIX) for name in names))


def dump_config(config: SweepConfig, comments: bool = False) -> str:
    """Write a configuration as a sweep file that loads back to an equal one, defaults written out.

    Args:
        config: configuration to write.
        comments: True to explain each key; keys without a value are then written too, except for those of
            other data sets. The comments follow the values, and each is the result of `option_words`.
    """
    if not comments:
        return write_yaml(
            nested({key: value for key, value in _written(config).items() if value is not None})
        )
    lines = []
    sections: list[str] = []
    for key, value in _written(config).items():
        if value is None and not applies(key, config):
            continue
        *parents, name = key.split(".")
        for depth in range(len(parents)):
            if parents[: depth + 1] != sections[: depth + 1]:
                lines += [("" if depth else "\n") + "  " * depth + f"{parents[depth]}:"]
                sections = parents[: depth + 1]
        lines.append("  " * len(parents) + _explained(name, value, option_words(options()[key])))
    return "\n".join(lines) + "\n"


def option_words(option: Option[Any]) -> str:
    """Return the meaning of a key, and the names that it may have."""
    kind = option.kind
    names = kind.names if isinstance(kind, OneOf) else kind.options if isinstance(kind, DistinctNames) else ()
    return f"{option.help} ({listed(names)})" if names else option.help


def _explained(name: str, value: Any, words: str) -> str:
    line = write_yaml({name: value}, width=10**6).rstrip("\n")
    line = line[1:-1] if line.startswith("{") else line
    return f"{line:<28} # {words}"


def config_to_params(config: SweepConfig) -> dict[str, str]:
    """Flatten a configuration for logging: dotted keys, values as an override would have them."""
    return {
        key: value if isinstance(value, str) else json.dumps(value)
        for key, value in _written(config).items()
        if value is not None
    }


def written(value: Any) -> Any:
    """Return a value as the sweep file holds it."""
    if isinstance(value, Choice | Uniform | LogUniform | IntRange | EnergyRange):
        return value.written()
    return list(value) if isinstance(value, tuple) else value


def _written(config: SweepConfig) -> dict[str, Any]:
    return {key: written(value) for key, value in config.values.items()}


def _read(source: str | Path) -> tuple[str, bytes]:
    """Return the bytes of a file or of a bundled one, and its name in an error."""
    label = f"sweep file '{printable(str(source))}'"
    if str(source) in bundled_configs():
        return label, (resources.files("sweeps") / "configs" / f"{source}{_SUFFIX}").read_bytes()
    path = Path(source)
    try:
        with open_file(path) as file:
            return label, file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        names = bundled_configs()
        hint = did_you_mean(path.stem, names)
        fault = f"there is no such file, and the bundled ones are {listed(names, 'and')}{hint}"
    except IsADirectoryError:
        fault = "it is a folder, must be a file"
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        fault = f"it cannot be read: {getattr(error, 'strerror', None) or error}"
    raise ConfigError(label, [fault])


def _mapping(label: str, data: bytes) -> tuple[dict[str, Any], list[str]]:
    if len(data) > MOST_BYTES:
        raise ConfigError(label, [f"it is larger than {MOST_BYTES // 1_000_000} MB, which no sweep file is"])
    try:
        value, faults = read_yaml(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ConfigError(label, [f"it is not UTF-8 text: byte {error.start} fits no character"]) from None
    except YamlTextError as error:
        raise ConfigError(label, [str(error)]) from None
    if value is None:
        raise ConfigError(label, ["it is empty; it needs the keys dataset, model, training and search"])
    if not isinstance(value, dict):
        raise ConfigError(label, [f"got {shown(value)}, must be a mapping such as dataset: {{name: mnist}}"])
    return value, faults


def _apply(mapping: dict[str, Any], override: str) -> list[str]:
    """Set one override in the mapping; returns its faults where that is impossible."""
    key, equals, text = override.partition("=")
    if key != key.rstrip():
        text = text.strip()  # key = value
    key = key.strip()
    if not equals or not key:
        missing = "no key before the =" if equals else "no ="
        return [f"the override {shown(override)} has {missing}, must be section.key=value"]
    # parts of a searched form, such as training.lr.uniform, are left to the checks of their key
    leaves = list(options())
    if key not in known_keys() and not any(key.startswith(f"{known}.") for known in leaves):
        return [unknown_key(printable(key)[:SHOWN_CHARACTERS])]
    try:
        value, faults = (_typed(text), []) if key in leaves and takes_text(key) else read_value(text)
    except YamlTextError as error:
        return [f"{key}: got {shown(text)}, which cannot be read: {error}"]
    *parents, leaf = key.split(".")
    target = mapping
    for depth, parent in enumerate(parents, start=1):
        if target.get(parent) is None:
            target[parent] = {}
        if not isinstance(target[parent], dict):
            owner = ".".join(parents[:depth])
            value = shown(target[parent])
            return [*faults, f"{key}: {owner} is {value}, so it has no {leaf}; set {owner} itself"]
        target = target[parent]
    target[leaf] = value
    return [f"{key}: {fault}" for fault in faults]


def _typed(text: str) -> str | None:
    """Return text as a person typed it; None where there is none.

    Raises:
        YamlTextError: no file can hold the text.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise YamlTextError("it is not UTF-8 text, which is all that a sweep file can hold") from None
    return text or None
