"""What to train next: the Optuna study and the searcher that Ray Tune asks."""

from sweeps.search.samplers import make_sampler
from sweeps.search.searcher import PackSearcher
from sweeps.search.study import Study

__all__ = ["PackSearcher", "Study", "make_sampler"]
