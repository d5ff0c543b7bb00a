"""YAML as sweep files use it: plain values only, one document, no key twice.

Numbers and booleans are read as in YAML 1.2, not YAML 1.1: `3e-4` is a number, `yes` and `on` are words,
`010` is ten. Tags, aliases and dates are not supported, so no text can name a Python object or unfold to more
than it shows.
"""

import re
from typing import Any, ClassVar

import yaml

from arsvd.options.faults import printable

MOST_DEPTH = 20
MOST_NODES = 10_000

_NULL = re.compile(r"^(?:~|null|Null|NULL|)$")
_BOOL = re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$")
_INT = re.compile(r"^[-+]?[0-9][0-9_]*$")
_FLOAT = re.compile(
    r"^[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|\.[0-9]+(?:[eE][-+]?[0-9]+)?"
    r"|[0-9][0-9_]*[eE][-+]?[0-9]+|\.(?:inf|Inf|INF))$|^\.(?:nan|NaN|NAN)$"
)
_TAG = "tag:yaml.org,2002:"
_RESOLVERS = (("null", _NULL), ("bool", _BOOL), ("int", _INT), ("float", _FLOAT))
_LONGEST_NUMBER = 30
_FORMS = ("{", "[", "'", '"')


class _UnreadableError(yaml.YAMLError):
    """Text that is valid YAML but not valid in a sweep file."""


class _Loader(yaml.SafeLoader):
    yaml_constructors: ClassVar[dict[Any, Any]] = {}
    yaml_multi_constructors: ClassVar[dict[Any, Any]] = {}
    yaml_implicit_resolvers: ClassVar[dict[Any, Any]] = {}  # type: ignore[misc]

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = 0
        self.nodes = 0
        self.faults: list[str] = []

    def compose_node(self, parent: Any, index: Any) -> Any:
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        if self.check_event(yaml.AliasEvent):
            raise _UnreadableError(f"{_place(mark)}: an alias (*name) is not allowed, write the value out")
        self.nodes += 1
        self.depth += 1
        if self.depth > MOST_DEPTH or self.nodes > MOST_NODES:
            raise _UnreadableError(f"{_place(mark)}: more values or deeper nesting than any sweep file needs")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def mapping(self, node: Any) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise _UnreadableError(
                    f"{_place(key_node.start_mark)}: a key is a list or mapping, must be a word"
                )
            key = key_node.value
            if key in result:
                self.faults.append(f"{_place(key_node.start_mark)}: the key {printable(key)} is given twice")
            result[key] = self.construct_object(value_node, deep=True)
        return result

    def sequence(self, node: Any) -> list[Any]:
        return [self.construct_object(item, deep=True) for item in node.value]

    def number(self, node: Any) -> int | float:
        text = node.value.replace("_", "")
        kind = int if node.tag == _TAG + "int" else float
        try:
            if len(text) > _LONGEST_NUMBER:
                raise ValueError
            return kind(text.replace(".inf", "inf").replace(".nan", "nan") if kind is float else text)
        except ValueError:
            raise _UnreadableError(
                f"{_place(node.start_mark)}: '{text[:40]}' is not a usable number"
            ) from None

    def text(self, node: Any) -> str:
        text = str(self.construct_scalar(node))
        if any("\ud800" <= sign <= "\udfff" for sign in text):
            raise _UnreadableError(f"{_place(node.start_mark)}: half of a character, which no file can hold")
        return text

    def refused(self, node: Any) -> Any:
        raise _UnreadableError(f"{_place(node.start_mark)}: the tag {_short(node.tag)} is not allowed")


_Loader.add_constructor(_TAG + "map", _Loader.mapping)
_Loader.add_constructor(_TAG + "seq", _Loader.sequence)
_Loader.add_constructor(_TAG + "str", _Loader.text)
_Loader.add_constructor(_TAG + "null", lambda loader, node: None)
_Loader.add_constructor(_TAG + "bool", lambda loader, node: node.value.lower() == "true")
_Loader.add_constructor(_TAG + "int", _Loader.number)
_Loader.add_constructor(_TAG + "float", _Loader.number)
_Loader.add_constructor(None, _Loader.refused)


class _Dumper(yaml.SafeDumper):
    """Quotes what YAML 1.1 or this loader would not read back as text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def plain_mapping(self, data: dict[str, Any]) -> Any:
        # one line for what holds no mapping, such as {uniform: [0.0, 0.3]}
        flow = not any(isinstance(value, dict) for value in data.values())
        return self.represent_mapping(_TAG + "map", data, flow_style=flow)


_Dumper.add_representer(dict, _Dumper.plain_mapping)


for _name, _pattern in _RESOLVERS:
    _Loader.add_implicit_resolver(_TAG + _name, _pattern, None)
    _Dumper.add_implicit_resolver(_TAG + _name, _pattern, None)


class YamlTextError(ValueError):
    """Text that cannot be read; its message says where and why."""


def read_yaml(text: str) -> tuple[Any, list[str]]:
    """Read one document of plain values.

    Returns:
        The value, and the faults that did not stop the reading: keys given twice.

    Raises:
        YamlTextError: the text is not YAML, or uses more of YAML than plain values.
    """
    try:
        loader = _Loader(text)
        value = loader.get_single_data()
    except _UnreadableError as error:
        raise YamlTextError(str(error)) from None
    except yaml.MarkedYAMLError as error:
        raise YamlTextError(_explained(error)) from None
    except yaml.YAMLError as error:
        raise YamlTextError(_unprintable(error)) from None
    except ValueError as error:  # an escape past the last character, such as "\U00110000"
        raise YamlTextError(f"not valid YAML: {error}") from None
    return value, loader.faults


def read_value(text: str) -> tuple[Any, list[str]]:
    """Read one value as given on a command line.

    A form in brackets or a quoted word is read as YAML. Anything else is taken as typed, and is a number, a
    boolean or nothing where YAML 1.2 says so: no comment, anchor or mapping begins in a plain value.

    Returns:
        The value, and the faults that did not stop the reading: keys given twice.

    Raises:
        YamlTextError: the text is a form that cannot be read.
    """
    text = text.strip()
    if not text.startswith(_FORMS):
        plain = not any(pattern.match(text) for _, pattern in _RESOLVERS)
        return (text, []) if plain else read_yaml(text)
    if "#" in text:
        raise YamlTextError("a # begins a comment in YAML, so what follows it would be lost")
    return read_yaml(text)


def write_yaml(value: Any, width: int = 100) -> str:
    """Write plain values as text that `read_yaml` reads back unchanged.

    Args:
        value: lists, mappings, texts, numbers, booleans and None.
        width: number of columns after which a line is broken.
    """
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=width)
    return text


def _place(mark: Any) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}"


def _short(tag: str) -> str:
    return printable(tag.replace(_TAG, "!!"))[:60]


def _explained(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    place = f"{_place(mark)}: " if mark else ""
    problem = error.problem or error.context or "not YAML"
    if "'\\t'" in problem:
        return f"{place}a tab, YAML takes spaces only"
    if "expected a single document" in (error.context or ""):
        return f"{place}a second document (---), must be one"
    return f"{place}not valid YAML: {problem}"


def _unprintable(error: yaml.YAMLError) -> str:
    position = getattr(error, "position", None)
    return "a control character" + (f" (character {position} of the text)" if position is not None else "")
