"""Check the JSON of an exported program, and keep of it only what torch needs to rebuild the graph.

`torch.export.load` trusts this JSON: it runs guards as Python, imports what trees of inputs name, looks
targets up by attribute from `torch` on, pastes names into generated code, and hands sizes to sympy, which
evaluates them. So everything that is not part of the computation is left out, and every string that stays
must match a closed form.
"""

import functools
import json
import re
from collections.abc import Callable
from typing import Any

import torch
import torch.utils._pytree as pytree

from arsvd.files.exported.refusal import RefusedError
from arsvd.files.exported.regions import REGIONS

_MOST_TEXT, _MOST_SIZE = 4_000, 100_000
_INTEGER = 2**63

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,499}|")
_PATH = re.compile(r"(?!.*(?:^|\.)__)[^\x00-\x1f\x7f\"'\\]{1,1000}")
_VERSION = re.compile(r"[\w.+<=-]{1,100}")
_SYMBOL = re.compile(r"(?:s|u|z|zf|zuf)\d{1,5}")

_EMPTY: dict[str, Any] = {"metadata": {}, "guards_code": [], "treespec_namedtuple_fields": {}}
# dictionaries whose keys are names of the program
_TABLES = {
    "tensor_values",
    "custom_obj_values",
    "range_constraints",
    "as_string_to_argument",
    "opset_version",
}
# what a graph says about intermediate results only describes them: written anew, it costs torch less
_DESCRIPTIONS = {
    "sym_int_values": {"as_int": 2},
    "sym_bool_values": {"as_bool": True},
    "sym_float_values": {"as_float": 1.0},
}
_OBJECTS = ("custom_obj", "as_custom_obj")

_SIZE_OPERATORS = {
    "math.trunc",
    *(f"torch.sym_{name}" for name in ("not", "int", "float", "ite", "max", "min", "sqrt")),
    *(
        f"_operator.{name}"
        for name in ("eq", "ne", "le", "ge", "lt", "gt", "neg", "pos", "and_", "or_", "pow")
    ),
    *(
        f"_operator.{name}"
        for name in ("mul", "add", "sub", "floordiv", "mod", "truediv", "lshift", "rshift")
    ),
}
_NAMESPACES = {"aten": torch.ops.aten, "prims": torch.ops.prims}
_ARGUMENTS = re.compile(
    r"(?:Optional|List|\[|\]|\?|\d|\b(?:Tensor|int|SymInt|float|bool|complex|number|Scalar|str|Device|Layout"
    r"|ScalarType|MemoryFormat|Generator)\b)*"
)
_OUTSIDE = ("filename", "s")  # arguments of aten.from_file, which opens files, and of aten._print

_ARITHMETIC = re.compile(r"[\w()'.,+*/%<>=!~&| -]*")
_SIZE_WORDS = {
    *(
        "Symbol",
        "Integer",
        "Float",
        "Rational",
        "True",
        "False",
        "true",
        "false",
        "oo",
        "int_oo",
        "pi",
        "precision",
    ),
    *(
        "positive",
        "nonnegative",
        "negative",
        "integer",
        "real",
        "finite",
        "zero",
        "Add",
        "Mul",
        "Pow",
        "Max",
        "Min",
    ),
    *(
        "Mod",
        "PythonMod",
        "Abs",
        "floor",
        "ceiling",
        "FloorDiv",
        "CleanDiv",
        "CeilDiv",
        "CeilToInt",
        "FloorToInt",
    ),
    *(
        "TruncToInt",
        "RoundToInt",
        "TruncToFloat",
        "RoundDecimal",
        "ToFloat",
        "Identity",
        "FloatTrueDiv",
        "Where",
    ),
    *(
        "IntTrueDiv",
        "FloatPow",
        "PowByNatural",
        "LShift",
        "RShift",
        "ModularIndexing",
        "And",
        "Or",
        "Not",
        "Piecewise",
    ),
    *(
        "Equality",
        "Unequality",
        "StrictLessThan",
        "LessThan",
        "StrictGreaterThan",
        "GreaterThan",
        "ExprCondPair",
    ),
    *("IsNonOverlappingAndDenseIndicator", "OpaqueUnaryFn_sqrt", "e", "zoo", "nan"),
}


def clean_program(content: Any) -> dict[str, Any]:
    """Check a program, and leave out what torch would run or import needlessly.

    Args:
        content: parsed content of `models/model.json`.

    Returns:
        The same computation, without metadata and guards.

    Raises:
        RefusedError: the program holds what torch.export does not write, calls operations that are not
            torch's own, or has another interface than one tensor to one tensor.
        KeyError, TypeError: the content is not a program.
    """
    module = content["graph_module"]
    signature = _root_signature(module["module_call_graph"])
    _forget_sizes(module["graph"])
    program: dict[str, Any] = _clean({key: value for key, value in content.items() if key != "graph_module"})
    program["graph_module"] = {
        "graph": _clean(module["graph"]),
        "signature": _clean(module["signature"]),
        "module_call_graph": [{"fqn": "", "signature": signature}],
        **{key: value for key, value in _EMPTY.items() if key != "guards_code"},
    }
    return program


def count_objects(content: Any) -> int:
    """Count the objects of a JSON document: torch takes up to 0.2 ms for each."""
    found, pending = 0, [content]
    while pending:
        here = pending.pop()
        found += isinstance(here, dict)
        if isinstance(here, dict | list):
            pending.extend(here.values() if isinstance(here, dict) else here)
    return found


def _forget_sizes(graph: dict[str, Any]) -> None:
    """Describe all tensors except the program's inputs as numbers, in place."""
    inputs = {entry["as_tensor"]["name"] for entry in graph["inputs"] if "as_tensor" in entry}
    pending: list[Any] = [graph]
    while pending:
        here = pending.pop()
        if isinstance(here, dict):
            for name, meta in here.get("tensor_values", {}).items():
                if here is not graph or name not in inputs:
                    meta["sizes"], meta["strides"] = [], []
            pending.extend(here.values())
        elif isinstance(here, list):
            pending.extend(here)


def _root_signature(entries: Any) -> dict[str, Any]:
    """Write the trees of inputs and outputs anew: those of a file may name modules, which torch imports."""
    (root,) = (entry["signature"] for entry in entries if entry["fqn"] == "")
    own = {"in_spec": ((0,), {}), "out_spec": 0}
    specs = {key: pytree.treespec_dumps(pytree.tree_structure(tree)) for key, tree in own.items()}
    if any(json.loads(root[key]) != json.loads(spec) for key, spec in specs.items()):
        raise RefusedError("holds a program that does not map one tensor to one tensor, forward(x) -> logits")
    return {"inputs": [], "outputs": [], **specs, "forward_arg_names": _clean(root.get("forward_arg_names"))}


def _clean(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        if "expr_str" in value:
            return _size(value)
        if key in _DESCRIPTIONS:
            return {_name(name): _DESCRIPTIONS[key] for name in value}
        if key in _TABLES:
            return {
                _symbol(name) if key == "range_constraints" else _name(name): _clean(v)
                for name, v in value.items()
            }
        return {_name(k): _EMPTY[k] if k in _EMPTY else _clean(v, k) for k, v in value.items()}
    if isinstance(value, list):
        return [_clean(v, key) for v in value]
    if isinstance(value, str):
        return _STRINGS.get(key, _name)(value)
    if isinstance(value, int) and not -_INTEGER <= value < _INTEGER:
        raise RefusedError("holds an integer of more than 64 bits")
    return value


def _name(text: str) -> str:
    if text in _OBJECTS:
        raise RefusedError(
            "needs pickle for an object that is no tensor, and a pickle can run any code when it is read: "
            "nothing of the file was unpickled. Export a model of plain tensors"
        )
    return _full(_NAME, text, "name")


def path_name(text: str) -> str:
    """Check the path of a parameter or buffer.

    Raises:
        RefusedError: it has quotes, control characters or names that begin with two underscores.
    """
    return _full(_PATH, text, "parameter")


def _symbol(text: str) -> str:
    return _full(_SYMBOL, text, "size")


def _full(pattern: re.Pattern[str], text: str, kind: str) -> str:
    if not pattern.fullmatch(text):
        raise RefusedError(f"holds a {kind} {text[:100]!r}, which torch.export does not write")
    return text


def _text(text: str) -> str:
    if len(text) > _MOST_TEXT or not all(c.isprintable() or c in "\n\t" for c in text):
        raise RefusedError(f"holds a text {text[:100]!r}, which is no option of an operation")
    return text


def _operator(target: str) -> str:
    if not _is_known(target):
        raise RefusedError(
            f"calls {target[:100]!r}, which is no operation of torch itself (aten): "
            f"a program with operations of other libraries is not read"
        )
    return target


@functools.cache
def _is_known(target: str) -> bool:
    if target in _SIZE_OPERATORS or target.removeprefix("torch.ops.higher_order.") in REGIONS:
        return True
    parts = target.split(".")
    if len(parts) != 5 or parts[:2] != ["torch", "ops"] or not all(map(_NAME.fullmatch, parts)):
        return False
    packet = getattr(_NAMESPACES.get(parts[2]), parts[3], None)
    overload = getattr(packet, parts[4], None)
    return isinstance(overload, torch._ops.OpOverload) and all(
        _ARGUMENTS.fullmatch(str(argument.type)) and argument.name not in _OUTSIDE
        for argument in overload._schema.arguments
    )


def _size(value: dict[str, Any]) -> dict[str, Any]:
    """Keep one symbol of a size such as "Add(Integer(2), Symbol('s77', integer=True))".

    sympy evaluates what stays as Python, and can take forever over arithmetic. For an input's size it matters
    only whether it is fixed.
    """
    text = str(value["expr_str"])
    words = re.findall(r"[A-Za-z_]\w*", text)
    symbols = [word for word in words if _SYMBOL.fullmatch(word)]
    if (
        len(text) > _MOST_SIZE
        or not _ARITHMETIC.fullmatch(text)
        or not _SIZE_WORDS.issuperset({*words} - {*symbols})
    ):
        raise RefusedError(f"states a size as {text[:100]!r}, which is no arithmetic; it is not read")
    if not symbols:
        return {"expr_str": "Integer(2)", "hint": None}
    positive = "positive=True, " if symbols[0].startswith("s") else ""
    hint = value.get("hint") if text.count("(") == 1 else None  # of the symbol, not of a sum
    return {"expr_str": f"Symbol('{symbols[0]}', {positive}integer=True)", "hint": _clean(hint)}


_STRINGS: dict[str, Callable[[str], str]] = {
    "target": _operator,
    "as_operator": _operator,
    "as_string": _text,
    "as_strings": _text,
    "parameter_name": path_name,
    "buffer_name": path_name,
    "tensor_constant_name": path_name,
    "torch_version": functools.partial(_full, _VERSION, kind="version"),
}
