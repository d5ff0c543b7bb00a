"""The language of the docstrings: whoever reads a description alone understands it."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("arsvd", "sweeps", "cluster", "mlflow_server")

# First words that need the argument's name before them.
PREPOSITIONS = """
    about above after against along among around as at before behind below beside between beyond by down
    during except for from in inside into like of off on onto out outside over past per since than
    through to towards under until up upon via with within without
"""
QUESTIONS = """
    how that what whatever when whenever where wherever whether which whichever who whoever whom whose
    why
"""
PRONOUNS = """
    he her his it its she their them they this these those
"""
VERBS = """
    added applies are asks be been begins belongs builds called chooses comes counted decides describes
    does done draws ends fetches finds gets gives goes had has have held holds is keeps made makes maps
    means measures must needed needs opens puts raises reads receives replaces returns runs says sees
    sets shows starts stands stops switches takes taken tells told turns used was were writes
"""
NEEDS_THE_NAME = frozenset(f"{PREPOSITIONS} {QUESTIONS} {PRONOUNS} {VERBS}".split())
ONE_EACH = re.compile(r"(one|two) (an?|per|for|where|by)\b")  # one of what?

CAPITALS = {"False", "None", "Optuna", "Ray", "True"}
NO_SENTENCES = {"A", "An", "How", "The", "What", "When", "Where", "Whether", "Which", "Who", "Why"}
SECTION = re.compile(r"(Args|Attributes|Raises|Returns|Yields|Source):$")
ENTRY = re.compile(r"([\w.]+(?:, [\w.]+)*): +(.+)$")

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@cache
def _docstrings() -> tuple[tuple[Path, Documented, ast.Constant], ...]:
    found = []
    for path in [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]:
        relative = path.relative_to(ROOT)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, Documented) and ast.get_docstring(node) is not None:
                expression = node.body[0]
                assert isinstance(expression, ast.Expr)
                assert isinstance(expression.value, ast.Constant)
                found.append((relative, node, expression.value))
    return tuple(found)


def _entries() -> Iterator[tuple[str, str, str, str]]:
    """Yield place, section, name and first line of each description; "" where a line is none."""
    for path, _, constant in _docstrings():
        section, indent = "", 0
        for number, line in enumerate(str(constant.value).splitlines(), constant.lineno):
            text = line.strip()
            depth = len(line) - len(line.lstrip())
            if heading := SECTION.match(text):
                section, indent = heading[1], depth
            elif text and depth <= indent:
                section = ""
            elif section in ("Args", "Attributes", "Raises") and text and depth == indent + 4:
                entry = ENTRY.match(text)
                yield f"{path}:{number}", section, entry[1] if entry else text, entry[2] if entry else ""


def _fault(text: str) -> bool:
    word = re.split(r"[\s,;:.]", text, maxsplit=1)[0]
    return (
        not text
        or word.lower() in NEEDS_THE_NAME
        or ONE_EACH.match(text) is not None
        or (re.fullmatch(r"[A-Z]([a-z']+)?", word) is not None and word not in CAPITALS)
    )


def test_descriptions_of_arguments_are_noun_phrases_in_lower_case() -> None:
    described = [entry for entry in _entries() if entry[1] in ("Args", "Attributes")]
    assert len(described) > 900
    assert [f"{place}: {name}: {text}" for place, _, name, text in described if _fault(text)] == []


def test_descriptions_of_errors_begin_in_lower_case() -> None:
    raised = [entry for entry in _entries() if entry[1] == "Raises"]
    assert len(raised) > 200
    assert [
        f"{place}: {name}: {text}"
        for place, _, name, text in raised
        if not text or (re.match("[A-Z][a-z]* ", text) and text.split()[0] not in CAPITALS)
    ] == []


def test_functions_say_what_they_do_in_the_imperative() -> None:
    functions = [
        (path, node, str(constant.value))
        for path, node, constant in _docstrings()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and not any("property" in ast.unparse(decorator) for decorator in node.decorator_list)
        and "testing" not in path.parts  # promises, which are statements
    ]
    assert len(functions) > 700
    assert [
        f"{path}:{node.lineno}: {node.name}: {text.splitlines()[0]}"
        for path, node, text in functions
        if text.split(maxsplit=1)[0] in NO_SENTENCES
    ] == []
