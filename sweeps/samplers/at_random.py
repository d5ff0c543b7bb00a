"""Random search."""

from typing import TYPE_CHECKING

from sweeps.samplers.base import Sampler

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


class Random(Sampler):
    """Draws every proposal independently."""

    def make(self, seed: int, trials: int) -> "BaseSampler":
        """Build the sampler."""
        import optuna

        return optuna.samplers.RandomSampler(seed=seed)


RANDOM = Random()
