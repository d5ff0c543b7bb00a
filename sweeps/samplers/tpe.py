"""Optuna's tree-structured Parzen estimator."""

from typing import TYPE_CHECKING

from sweeps.samplers.base import Sampler

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

# TPE's own default of 10 random trials, but no more than a quarter of a short sweep
_RANDOM_TRIALS = 10


class Tpe(Sampler):
    """TPE over all parameters at once."""

    def make(self, seed: int, trials: int) -> "BaseSampler":
        """Build the sampler."""
        import optuna

        # constant_liar: members of one pack, and of packs that run at once, are asked before any is told
        return optuna.samplers.TPESampler(
            seed=seed,
            n_startup_trials=max(1, min(_RANDOM_TRIALS, trials // 4)),
            constant_liar=True,
            multivariate=True,
            group=True,
        )


TPE = Tpe()
