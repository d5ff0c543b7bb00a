"""Trials fit the cluster."""

from collections.abc import Callable

import pytest

from sweeps.config import SweepConfig
from sweeps.resources import ResourcesError, TrialResources, fit_resources

SMALL, LARGE = 64, 3072  # inputs: digits, CIFAR-10

# name: cluster, overrides, inputs, (cpu, gpu, pack, concurrent), threads
FITS: dict[str, tuple[dict[str, float], list[str], int, tuple[float, float, int, int], int]] = {
    "two cores, small networks": ({"CPU": 2}, ["search.trials=32"], SMALL, (1, 0, 8, 2), 1),
    "two cores, large networks": ({"CPU": 2}, ["search.trials=32"], LARGE, (1, 0, 1, 2), 1),
    "a short sweep has two rounds": ({"CPU": 2}, ["search.trials=16"], SMALL, (1, 0, 4, 2), 1),
    "too short for packs": ({"CPU": 2}, ["search.trials=3"], SMALL, (1, 0, 1, 2), 1),
    "one trial": ({"CPU": 16}, ["search.trials=1"], SMALL, (1, 0, 1, 1), 1),
    "more cores than members": ({"CPU": 64}, ["search.trials=10"], SMALL, (1, 0, 1, 10), 1),
    "several cores a trial": ({"CPU": 16}, ["resources.cpu=4", "search.trials=99"], LARGE, (4, 0, 1, 4), 4),
    "cores that do not divide": ({"CPU": 7}, ["resources.cpu=2"], LARGE, (2, 0, 1, 3), 2),
    "half a core a trial": ({"CPU": 2}, ["resources.cpu=0.5"], LARGE, (0.5, 0, 1, 4), 1),
    "fewer at a time": ({"CPU": 16}, ["resources.concurrent=3"], LARGE, (1, 0, 1, 3), 1),
    "no more at a time than fit": ({"CPU": 2}, ["resources.concurrent=50"], LARGE, (1, 0, 1, 2), 1),
    "a given pack": ({"CPU": 2}, ["resources.pack=5", "search.trials=32"], LARGE, (1, 0, 5, 2), 1),
    "one pack holds all members": (
        {"CPU": 8},
        ["resources.pack=32", "search.trials=32"],
        SMALL,
        (1, 0, 32, 1),
        1,
    ),
    "the last pack is smaller": (
        {"CPU": 8},
        ["resources.pack=5", "search.trials=11"],
        SMALL,
        (1, 0, 5, 3),
        1,
    ),
    "one GPU": ({"CPU": 16, "GPU": 1}, ["search.trials=200"], LARGE, (1, 1, 100, 1), 1),
    "one GPU, a short sweep": ({"CPU": 16, "GPU": 1}, ["search.trials=16"], LARGE, (1, 1, 8, 1), 1),
    "eight GPUs": ({"CPU": 64, "GPU": 8}, ["search.trials=2000"], LARGE, (1, 1, 125, 8), 1),
    "a quarter of a GPU": (
        {"CPU": 16, "GPU": 1},
        ["resources.gpu=0.25", "search.trials=999"],
        LARGE,
        (1, 0.25, 124, 4),
        1,
    ),
    "fewer cores than GPU shares": (
        {"CPU": 2, "GPU": 1},
        ["resources.gpu=0.25", "search.trials=999"],
        LARGE,
        (1, 0.25, 159, 2),
        1,
    ),
    "a GPU that is not wanted": ({"CPU": 4, "GPU": 1}, ["resources.gpu=0"], LARGE, (1, 0, 1, 4), 1),
    "a share of a GPU is none for auto": ({"CPU": 2, "GPU": 0.5}, [], LARGE, (1, 0, 1, 2), 1),
}


@pytest.mark.parametrize(("cluster", "overrides", "features", "wanted", "threads"), FITS.values(), ids=FITS)
def test_auto_fits_the_cluster(
    new_config: Callable[..., SweepConfig],
    cluster: dict[str, float],
    overrides: list[str],
    features: int,
    wanted: tuple[float, float, int, int],
    threads: int,
) -> None:
    config = new_config(*overrides)
    found = fit_resources(config, cluster, features, 10)
    assert found == TrialResources(*wanted)
    assert found.threads == threads
    assert found.concurrent * found.cpu <= cluster["CPU"]
    assert found.concurrent * found.gpu <= cluster.get("GPU", 0)
    assert (found.concurrent - 1) * found.pack < config.search.trials  # every place has members


# name: cluster, overrides, the error's text
TOO_LARGE: dict[str, tuple[dict[str, float], str, str]] = {
    "cores": ({"CPU": 2}, "resources.cpu=4", "a trial needs 4 cores and 0 GPUs, the cluster has 2 and 0"),
    "GPUs": ({"CPU": 2}, "resources.gpu=1", "a trial needs 1 cores and 1 GPUs, the cluster has 2 and 0"),
    "a share of a GPU": ({"CPU": 2}, "resources.gpu=0.5", "lower resources.cpu or resources.gpu"),
    "an empty cluster": ({}, "resources.cpu=1", "the cluster has 0 and 0"),
}


@pytest.mark.parametrize(("cluster", "override", "text"), TOO_LARGE.values(), ids=TOO_LARGE)
def test_a_trial_that_no_cluster_runs_is_refused(
    new_config: Callable[..., SweepConfig], cluster: dict[str, float], override: str, text: str
) -> None:
    with pytest.raises(ResourcesError, match=text):
        fit_resources(new_config(override), cluster, LARGE, 10)
