"""The samplers that a sweep file may name: one contract for all of them."""

import subprocess
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import optuna
import pytest

from arsvd.registry import UnknownMethodError
from sweeps.search.samplers import SAMPLERS, make_sampler, resumed_seed


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


def asked(study: optuna.Study, count: int) -> list[dict[str, Any]]:
    found = []
    for _ in range(count):
        trial = study.ask()
        trial.suggest_float("rate", 1e-4, 1e-1, log=True)
        trial.suggest_int("factors", 1, 3)
        trial.suggest_categorical("kind", ["a", "b"])
        study.tell(trial, [trial.params["rate"], float(trial.params["factors"])])
        found.append(trial.params)
    return found


def study(name: str, seed: int, trials: int = 12) -> optuna.Study:
    sampler = make_sampler(name, seed, trials)
    return optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)


@pytest.mark.parametrize("name", SAMPLERS.names)
class TestContract:
    def test_the_same_seed_asks_the_same(self, name: str) -> None:
        assert asked(study(name, 3), 12) == asked(study(name, 3), 12)

    def test_another_seed_asks_for_others(self, name: str) -> None:
        assert asked(study(name, 3), 12) != asked(study(name, 4), 12)

    def test_what_is_asked_lies_within_the_space(self, name: str) -> None:
        for params in asked(study(name, 0), 20):
            assert 1e-4 <= params["rate"] <= 1e-1
            assert params["factors"] in (1, 2, 3)
            assert params["kind"] in ("a", "b")

    @pytest.mark.parametrize("trials", [1, 4, 1000])
    def test_sweeps_of_any_length(self, name: str, trials: int) -> None:
        assert len(asked(study(name, 0, trials), 3)) == 3

    def test_a_study_that_goes_on_is_not_asked_for_the_same_again(self, name: str) -> None:
        begun = study(name, 3)
        first = asked(begun, 6)
        begun.sampler = make_sampler(name, resumed_seed(name, 3, len(begun.trials)), 12)
        assert asked(begun, 6) != first

    def test_its_name_needs_no_optuna(self, name: str) -> None:
        code = (
            f"import sys\nfrom sweeps.search.samplers import SAMPLERS\nSAMPLERS[{name!r}]\n"
            "print([n for n in ('optuna', 'ray', 'torch') if n in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout == "[]\n"


def test_an_unknown_sampler_is_refused() -> None:
    with pytest.raises(
        UnknownMethodError, match="unknown sampler 'grid'; there are tpe, nsga2, random and qmc"
    ):
        make_sampler("grid", 0, 10)
