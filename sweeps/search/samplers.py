"""The samplers that a sweep file may name."""

import hashlib
from collections.abc import Callable

import optuna
from optuna.samplers import BaseSampler

# TPE's own default of 10 random trials, but no more than a quarter of a short sweep
_RANDOM_TRIALS = 10


def _tpe(seed: int, trials: int) -> BaseSampler:
    # constant_liar: members of one pack, and of packs that run at once, are asked before any is told
    return optuna.samplers.TPESampler(
        seed=seed,
        n_startup_trials=max(1, min(_RANDOM_TRIALS, trials // 4)),
        constant_liar=True,
        multivariate=True,
        group=True,
    )


def _nsga2(seed: int, trials: int) -> BaseSampler:
    # the default population of 50 would make a sweep of 64 trials a random search
    return optuna.samplers.NSGAIISampler(seed=seed, population_size=max(4, min(50, trials // 4)))


def _random(seed: int, trials: int) -> BaseSampler:
    return optuna.samplers.RandomSampler(seed=seed)


def _qmc(seed: int, trials: int) -> BaseSampler:
    return optuna.samplers.QMCSampler(seed=seed, scramble=True, warn_independent_sampling=False)


_SAMPLERS: dict[str, Callable[[int, int], BaseSampler]] = {
    "tpe": _tpe,
    "nsga2": _nsga2,
    "random": _random,
    "qmc": _qmc,
}


def make_sampler(name: str, seed: int, trials: int) -> BaseSampler:
    """Build a sampler.

    Args:
        name: "tpe", "nsga2", "random" or "qmc".
        seed: what it draws from.
        trials: how many members the sweep will train.

    Raises:
        ValueError: the name is unknown.
    """
    if name not in _SAMPLERS:
        raise ValueError(f"unknown sampler {name!r}; there are {', '.join(_SAMPLERS)}")
    return _SAMPLERS[name](seed, trials)


def resumed_seed(name: str, seed: int, trials: int) -> int:
    """Return the seed for a sampler that goes on in a study: begun anew, it would repeat its first draws.

    Args:
        name: the sampler. A quasi-random sequence is kept in the study and goes on by itself.
        seed: what it drew from in the beginning.
        trials: trials that the study has.
    """
    if trials == 0 or name == "qmc":
        return seed
    return int.from_bytes(hashlib.sha256(f"{seed}/{trials}".encode()).digest()[:4], "big")
