"""What is wrong with a value, in words."""

import difflib
import json
import math
from collections.abc import Iterable, Sequence

SHOWN_CHARACTERS = 60


class FaultError(ValueError):
    """What is wrong with one value, before the key that holds it is known.

    Args:
        text: description of what the value was and what is allowed.
        hint: suggestion to append where another message replaces ``text``.
        parts: faults of parts of the value, as pairs of the part's path and its text, instead of ``text``.
    """

    def __init__(self, text: str, hint: str = "", parts: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(text)
        self.hint = hint
        self.parts: tuple[tuple[str, str], ...] = tuple(parts) or (("", text + hint),)


def shown(value: object) -> str:
    """Write a value as the sweep file would, cut to a readable length."""
    if value is None:
        return "nothing"
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value}"
    try:
        text = f"'{printable(value)}'" if isinstance(value, str) else json.dumps(value)
    except (TypeError, ValueError):
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 3] + "..."


def printable(text: str) -> str:
    """Escape what would break a message's line, or control the terminal that shows it."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def listed(words: Iterable[str], last: str = "or") -> str:
    """Join words as a sentence does: ``a, b or c``."""
    *head, tail = words
    return f"{', '.join(head)} {last} {tail}" if head else tail


def nearest(word: str, candidates: Iterable[str]) -> str | None:
    """Return the candidate that looks most like ``word``, or None where none is close."""
    found = difflib.get_close_matches(word.lower(), list(candidates), n=1, cutoff=0.6)
    return found[0] if found else None


def did_you_mean(word: object, candidates: Iterable[str]) -> str:
    """Write a suggestion to append to a message, empty where no candidate is close."""
    match = nearest(word, candidates) if isinstance(word, str) else None
    return f"; did you mean {match}?" if match else ""
