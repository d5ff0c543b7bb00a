"""The samplers that a sweep file may name."""

import warnings

import optuna
import pytest

from sweeps.config.schema import SAMPLERS
from sweeps.search import make_sampler

KINDS = {
    "tpe": optuna.samplers.TPESampler,
    "nsga2": optuna.samplers.NSGAIISampler,
    "random": optuna.samplers.RandomSampler,
    "qmc": optuna.samplers.QMCSampler,
}


def test_every_sampler_that_a_sweep_file_may_name_can_be_built() -> None:
    assert set(SAMPLERS) == set(KINDS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        for name in SAMPLERS:
            for trials in (1, 4, 1000):
                assert type(make_sampler(name, 0, trials)) is KINDS[name]


def test_an_unknown_sampler_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown sampler 'grid'; there are tpe, nsga2, random, qmc"):
        make_sampler("grid", 0, 10)
