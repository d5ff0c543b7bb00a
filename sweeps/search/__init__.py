"""What to train next: the Optuna study and the searcher that Ray Tune asks.

A name is imported when it is first used: sweep files are checked without Ray and Optuna.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweeps.search.searcher import PackSearcher
    from sweeps.search.study import Study

_PLACES = {"searcher": "PackSearcher", "study": "Study"}

__all__ = ["PackSearcher", "Study"]


def __getattr__(name: str) -> Any:
    for module, own in _PLACES.items():
        if name == own:
            return getattr(import_module(f"sweeps.search.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
