"""Numbers as they are shown to people and other programs."""

from typing import Any

_DIGITS = 10  # significant digits: the rest is rounding noise


def shown(value: Any) -> Any:
    """Round every float in JSON-able values once: 0.1 + 0.2 is 0.3.

    Args:
        value: number, text or None, or lists and dicts of those.
    """
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}")
    if isinstance(value, dict):
        return {key: shown(one) for key, one in value.items()}
    return [shown(one) for one in value] if isinstance(value, list | tuple) else value
