"""Changes of sweep files and overrides: values, keys, and what YAML has beside plain values."""

from collections.abc import Sequence
from random import Random

from tests.fuzz.mutation.raw import mutate_bytes

_VALUES = (
    "",
    "~",
    "null",
    "true",
    "yes",
    "0",
    "-1",
    "1e400",
    "-.inf",
    ".nan",
    "0x10",
    "1_000",
    "9" * 40,
    "9" * 5000,
    "1e-400",
    "12:30:45",
    "2020-01-01",
    "[]",
    "{}",
    "[[[]]]",
    "[1, 2",
    "{choice: [1, 2]}",
    "{choice: [[16], [8, 8]]}",
    "{uniform: [0, 1]}",
    "{loguniform: [1e-9, 1e9]}",
    "{int: [1, 99999999999999999999]}",
    "{range: [0.1, 1], points: 3}",
    "{uniform: [1, 0], choice: []}",
    "&a [*a]",
    "*a",
    "&a x",
    "!!python/object/apply:os.system [id]",
    "!!python/name:os.system",
    "!!int x",
    "!!float 1_",
    "!!set {a}",
    "!!binary aGk=",
    "!<tag:yaml.org,2002:str> 5",
    "? a",
    "- a",
    "|\n  text",
    ">-\n  text",
    "'it''s",
    '"\\ud800"',
    '"\\x00"',
    '"\\U00110000"',
    "'/data/set #2'",
    "\u2028",
    "\u0085",
    "[" * 5000,
    "{a: " * 5000,
    "a: " * 3000,
    "x" * 3000,
    "[" + "1, " * 20_000 + "]",
    "%YAML 9.9",
    "--- 1",
    "...",
    "<<: {a: 1}",
)
_KEYS = (
    "",
    "dataset",
    "model",
    "search",
    "training.lr",
    "<<",
    "?",
    "1",
    "null",
    "[a]",
    "{a: b}",
    "é",
    "a" * 2000,
)


def mutate_yaml(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Change a line's value or key, its indentation, or the bytes."""
    if random.random() < 0.2:
        return mutate_bytes(random, data, others)
    lines = data.decode("utf-8", errors="replace").split("\n")
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        _change_line(random, lines)
    text = random.choice(("\n", "\n", "\n", "\n", "\n", "\r\n", "\r")).join(lines)
    coding = random.choice(("utf-8",) * 12 + ("utf-8-sig", "utf-16", "utf-32"))
    return text.encode(coding, errors="surrogatepass" if coding == "utf-8" else "replace")


def mutate_override(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Change the key or the value of `section.key=value`."""
    key, _, value = data.decode("utf-8", errors="replace").partition("=")
    kind = random.random()
    if kind < 0.5:
        value = random.choice(_VALUES)
    elif kind < 0.7:
        key = random.choice((*_KEYS, f"{key}.{random.choice(_KEYS)}", key.upper(), f" {key} ", key[1:]))
    elif kind < 0.8:
        return mutate_bytes(random, data, others)
    else:
        value = value + random.choice(_VALUES)
    return f"{key}{random.choice(('=',) * 8 + ('', '==', ': '))}{value}".encode("utf-8", errors="replace")


def _change_line(random: Random, lines: list[str]) -> None:
    place = random.randrange(len(lines))
    key, colon, value = lines[place].partition(": ")
    kind = random.random()
    if kind < 0.5:
        lines[place] = f"{key}: {random.choice(_VALUES)}"
    elif kind < 0.6:
        indent = key[: len(key) - len(key.lstrip())]
        lines[place] = f"{indent}{random.choice(_KEYS)}{colon}{value}"
    elif kind < 0.7:
        lines[place] = random.choice(("\t", " ", "  ", "   ")) + lines[place].strip()
    elif kind < 0.8:
        lines.insert(
            place, random.choice((lines[place], random.choice(_VALUES), "---", "%TAG ! tag:x,2000:"))
        )
    elif kind < 0.9:
        del lines[place]
        lines[:] = lines or [""]
    else:
        words = lines[place].split(" ")
        words[random.randrange(len(words))] = random.choice(_VALUES)
        lines[place] = " ".join(words)
