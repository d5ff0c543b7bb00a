"""Let Optuna choose one energy threshold per layer of one trained member."""

import warnings
from collections.abc import Sequence

import optuna

from arsvd import OperatingPoint, Ranks, plan
from arsvd.evaluation import Evaluator
from arsvd.rules.base import smallest_rank

FAMILY = "per_layer"


def per_layer_search(
    evaluator: Evaluator, thresholds: Sequence[float], trials: int, seed: int
) -> list[OperatingPoint]:
    """Search one threshold per layer for accuracy and parameters.

    Args:
        evaluator: of the member.
        thresholds: the range is from the smallest to the largest of them, uniform in -log(1 - threshold).
        trials: rank tuples proposed.
        seed: of the sampler.

    Returns:
        The distinct points measured.
    """
    spectra = evaluator.spectra
    low, high = max(1e-6, 1 - max(thresholds)), max(2e-6, 1 - min(thresholds))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    found: dict[tuple[int | None, ...], OperatingPoint] = {}
    for _ in range(trials):
        trial = study.ask()
        ranks = tuple(
            smallest_rank(s.energy, 1 - trial.suggest_float(f"dropped {s.name}", low, high, log=True))
            for s in spectra
        )
        point = evaluator.points([plan(spectra, Ranks(ranks, FAMILY))])[0]
        study.tell(trial, [point.accuracy, float(point.params)])
        found.setdefault(point.ranks, point)
    return list(found.values())
