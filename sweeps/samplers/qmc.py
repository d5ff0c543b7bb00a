"""A quasi-random sequence, which covers the space more evenly than chance."""

from typing import TYPE_CHECKING, ClassVar

from sweeps.samplers.base import Sampler

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


class Qmc(Sampler):
    """A scrambled Sobol sequence, whose position is kept in the study."""

    goes_on: ClassVar[bool] = True

    def make(self, seed: int, trials: int) -> "BaseSampler":
        """Build the sampler."""
        import optuna

        return optuna.samplers.QMCSampler(seed=seed, scramble=True, warn_independent_sampling=False)


QMC = Qmc()
