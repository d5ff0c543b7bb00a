"""The contract of a sampler."""

import warnings
from collections.abc import Callable
from typing import Any

import optuna

from sweeps.samplers import Sampler
from sweeps.samplers.base import resumed_seed

LOW, HIGH, FACTORS, KINDS = 1e-4, 1e-1, (1, 2, 3), ("a", "b")
_TRIALS = 12


def the_same_seed_asks_the_same(sampler: Sampler) -> None:
    """A sweep can be repeated with the same result."""
    assert _asked(_study(sampler, 3)) == _asked(_study(sampler, 3))


def another_seed_asks_for_others(sampler: Sampler) -> None:
    """The seed is used."""
    assert _asked(_study(sampler, 3)) != _asked(_study(sampler, 4))


def what_is_asked_lies_within_the_space(sampler: Sampler) -> None:
    """Proposed numbers, whole numbers and names lie within the space."""
    for params in _asked(_study(sampler, 0), 20):
        assert LOW <= params["rate"] <= HIGH
        assert params["factors"] in FACTORS
        assert params["kind"] in KINDS


def sweeps_of_any_length_can_be_asked_for(sampler: Sampler) -> None:
    """One member, a few, or a thousand can be asked for."""
    for trials in (1, 4, 1000):
        assert len(_asked(_study(sampler, 0, trials), 3)) == 3


def a_study_that_goes_on_is_not_asked_for_the_same_again(sampler: Sampler) -> None:
    """A sampler that is built anew when a sweep is resumed does not start from the beginning."""
    begun = _study(sampler, 3)
    first = _asked(begun, 6)
    begun.sampler = _made(sampler, resumed_seed(sampler, 3, len(begun.trials)), _TRIALS)
    assert _asked(begun, 6) != first


CHECKS: dict[str, Callable[[Sampler], None]] = {
    check.__name__: check
    for check in (
        the_same_seed_asks_the_same,
        another_seed_asks_for_others,
        what_is_asked_lies_within_the_space,
        sweeps_of_any_length_can_be_asked_for,
        a_study_that_goes_on_is_not_asked_for_the_same_again,
    )
}


def _made(sampler: Sampler, seed: int, trials: int) -> "optuna.samplers.BaseSampler":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return sampler.make(seed, trials)


def _study(sampler: Sampler, seed: int, trials: int = _TRIALS) -> optuna.Study:
    return optuna.create_study(directions=["maximize", "minimize"], sampler=_made(sampler, seed, trials))


def _asked(study: optuna.Study, count: int = _TRIALS) -> list[dict[str, Any]]:
    found = []
    for _ in range(count):
        trial = study.ask()
        rate = trial.suggest_float("rate", LOW, HIGH, log=True)
        factors = trial.suggest_int("factors", FACTORS[0], FACTORS[-1])
        trial.suggest_categorical("kind", KINDS)
        study.tell(trial, [rate, float(factors)])
        found.append(trial.params)
    return found
