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
        source: A file, or the name of a bundled one; `./mnist` is a file even where `mnist` is bundled.
        overrides: `section.key=value` each, such as `search.trials=16`. All that follows the = is the value:
            of a key that holds text it is taken as typed, of another one as `read_value` reads it. Nothing
            leaves the key out. Spaces around the = count only where they follow it alone. Of two for the same
            key the later one holds.
        on_record: Whether it is the file of a sweep that exists: it may be older than some keys, and have
            some that are gone.

    Raises:
        ConfigError: the file cannot be read, or holds faults; it carries every one of them.
    """
    label, data = _read(source)
    mapping, faults = _mapping(label, data)
    if on_record:
        settle(mapping)
    for override in overrides:
        faults += _apply(mapping, override)
    return parse_config(mapping, label + (" with its overrides" if overrides else ""), faults)


def bundled_configs() -> tuple[str, ...]:
    """The names of the sweep files that come with the package."""
    folder = resources.files("sweeps") / "configs"
    names = [entry.name for entry in folder.iterdir() if entry.name.endswith(_SUFFIX)]
    return tuple(sorted(name.removesuffix(_SUFFIX) for name in names))


def dump_config(config: SweepConfig, comments: bool = False) -> str:
    """Write a configuration as a sweep file that loads back to an equal one, defaults written out.

    Args:
        config: What to write.
        comments: Whether each key is explained; keys without a value are written too then, but for those of
            other data sets. They follow the values, and each is what `option_words` says.
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
    """Return what a key means, and which names it may have."""
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
    """Return a value as the sweep file has it."""
    if isinstance(value, Choice | Uniform | LogUniform | IntRange | EnergyRange):
        return value.written()
    return list(value) if isinstance(value, tuple) else value


def _written(config: SweepConfig) -> dict[str, Any]:
    return {key: written(value) for key, value in config.values.items()}


def _read(source: str | Path) -> tuple[str, bytes]:
    """The bytes of a file or of a bundled one, and what to call it in an error."""
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
    """Set one override in the mapping; its faults where it cannot be."""
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
    """Text as a person typed it; None where there is none.

    Raises:
        YamlTextError: no file can hold it.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise YamlTextError("it is not UTF-8 text, which is all that a sweep file can hold") from None
    return text or None
