"""Optuna's genetic algorithm for several objectives."""

from typing import TYPE_CHECKING

from sweeps.samplers.base import Sampler

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


class Nsga2(Sampler):
    """NSGA-II with a population that fits the sweep."""

    def make(self, seed: int, trials: int) -> "BaseSampler":
        """Build the sampler."""
        import optuna

        # the default population of 50 would make a sweep of 64 trials a random search
        return optuna.samplers.NSGAIISampler(seed=seed, population_size=max(4, min(50, trials // 4)))


NSGA2 = Nsga2()
