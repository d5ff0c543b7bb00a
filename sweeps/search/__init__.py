"""What to train next: the Optuna study, and the searcher that Ray Tune asks.

A name is imported when it is first used, so that sweep files can be checked without Ray and Optuna.
"""

from typing import TYPE_CHECKING

from arsvd.lazy import lazy_names

if TYPE_CHECKING:
    from sweeps.search.searcher import PackSearcher
    from sweeps.search.study import Study

__all__ = ["PackSearcher", "Study"]


__getattr__ = lazy_names(__name__, {"searcher": ("PackSearcher",), "study": ("Study",)})
