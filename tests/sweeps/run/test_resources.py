"""Trials fit the cluster."""

from collections.abc import Callable, Mapping

import pytest

from arsvd.training import Architecture
from arsvd.training.methods import METHODS
from sweeps.config import MemberConfig, SweepConfig
from sweeps.run.resources import ResourcesError, TrialResources, fit_resources, room

SMALL, LARGE = 64, 3072  # inputs: digits, CIFAR-10
WIDE = "model.hidden={choice: [[512, 256], [128, 64]]}"

# name: cluster, overrides, inputs, (cpu, gpu, pack, concurrent), threads
FITS: dict[str, tuple[dict[str, float], list[str], int, tuple[float, float, int, int], int]] = {
    "two cores, small networks": ({"CPU": 2}, ["search.trials=32"], SMALL, (1, 0, 8, 2), 1),
    "two cores, small and large networks": (
        {"CPU": 2},
        ["search.trials=32", "model.hidden={choice: [[512, 256], [12]]}"],
        LARGE,
        (1, 0, 8, 2),
        1,
    ),
    "two cores, large networks": ({"CPU": 2}, ["search.trials=32", WIDE], LARGE, (1, 0, 1, 2), 1),
    "a short sweep has two rounds": ({"CPU": 2}, ["search.trials=16"], SMALL, (1, 0, 4, 2), 1),
    "too short for packs": ({"CPU": 2}, ["search.trials=3"], SMALL, (1, 0, 1, 2), 1),
    "one trial": ({"CPU": 16}, ["search.trials=1"], SMALL, (1, 0, 1, 1), 1),
    "more cores than members": ({"CPU": 64}, ["search.trials=10"], SMALL, (1, 0, 1, 10), 1),
    "several cores a trial": (
        {"CPU": 16},
        ["resources.cpu=4", "search.trials=99", WIDE],
        LARGE,
        (4, 0, 1, 4),
        4,
    ),
    "cores that do not divide": ({"CPU": 7}, ["resources.cpu=2", WIDE], LARGE, (2, 0, 1, 3), 2),
    "half a core a trial": ({"CPU": 2}, ["resources.cpu=0.5", WIDE], LARGE, (0.5, 0, 1, 4), 1),
    "fewer at a time": ({"CPU": 16}, ["resources.concurrent=3", WIDE], LARGE, (1, 0, 1, 3), 1),
    "no more at a time than fit": ({"CPU": 2}, ["resources.concurrent=50", WIDE], LARGE, (1, 0, 1, 2), 1),
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
        (1, 0.25, 151, 2),
        1,
    ),
    "a GPU that is not wanted": ({"CPU": 4, "GPU": 1}, ["resources.gpu=0", WIDE], LARGE, (1, 0, 1, 4), 1),
    "a share of a GPU is none for auto": ({"CPU": 2, "GPU": 0.5}, [WIDE], LARGE, (1, 0, 1, 2), 1),
}


# name: `model.factors`, members a pack on a CPU
FACTORS: dict[str, tuple[str, int]] = {
    "plain": ("1", 8),
    "two": ("2", 8),
    "six": ("6", 8),
    "two or six": ("{choice: [6, 1, 2]}", 8),
    "up to six": ("{int: [1, 6]}", 8),
}


@pytest.mark.parametrize(("factors", "pack"), FACTORS.values(), ids=FACTORS)
def test_packs_on_a_cpu_fit_the_smallest_network_that_is_searched(
    new_config: Callable[..., SweepConfig], factors: str, pack: int
) -> None:
    config = new_config(f"model.factors={factors}", "search.trials=99")
    assert fit_resources(config, [{"CPU": 2}], SMALL, 10).pack == pack


def test_every_method_that_shapes_networks_counts(
    new_config: Callable[..., SweepConfig],
    new_member: Callable[..., MemberConfig],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def widened(cls: type, architecture: Architecture, settings: Mapping[str, float]) -> Architecture:
        inner = round(1e6 * settings.get("training.lasso.weight", 0.0))
        return tuple((a, *([inner] if inner else []), *rest) for a, *rest in architecture)

    monkeypatch.setattr(METHODS["lasso"], "architecture", classmethod(widened))
    assert room(new_member(), SMALL, 10) == 8
    assert room(new_member(lasso_weight=1e-3), SMALL, 10) == 4
    node = {"CPU": 2.0, "memory": 2e6}
    for weight in (
        "1.0e-3",
        "{choice: [0, 1.0e-3]}",
        "{uniform: [0, 1.0e-3]}",
        "{loguniform: [1.0e-5, 1.0e-3]}",
    ):
        config = new_config("model.factors=1", f"training.lasso.weight={weight}")
        with pytest.raises(ResourcesError, match="of the largest network takes"):
            fit_resources(config, [node], SMALL, 10)
    fit_resources(new_config("model.factors=1"), [node], SMALL, 10)


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
    found = fit_resources(config, [cluster], features, 10)
    alike = "resources.pack" not in str(overrides) and found.gpu == 0 and found.pack > 1
    assert found == TrialResources(*wanted, alike=alike)
    assert found.threads == threads
    assert found.concurrent * found.cpu <= cluster["CPU"]
    assert found.concurrent * found.gpu <= cluster.get("GPU", 0)
    assert (found.concurrent - 1) * found.pack < config.search.trials  # every place has members


# name: hidden widths, factors, inputs, members like it in a pack on a CPU
ROOMS: dict[str, tuple[list[int], int, int, int]] = {
    "small": ([32], 1, 784, 8),
    "two layers": ([64, 32], 1, 784, 4),
    "a factor more": ([256, 128], 1, 784, 4),
    "a factor too many": ([256, 128], 2, 784, 1),
    "wide": ([512, 256], 1, 784, 1),
    "wide inputs": ([32], 1, 3072, 4),
}


@pytest.mark.parametrize(("hidden", "factors", "features", "members"), ROOMS.values(), ids=ROOMS)
def test_a_member_has_room_for_others_of_its_size(
    new_member: Callable[..., MemberConfig], hidden: list[int], factors: int, features: int, members: int
) -> None:
    assert room(new_member(hidden=hidden, factors=factors), features, 10) == members


# name: nodes, overrides, trials at a time
SPREAD: dict[str, tuple[list[dict[str, float]], list[str], int]] = {
    "cores of several nodes": ([{"CPU": 2}, {"CPU": 3}], ["resources.cpu=2"], 2),
    "only one node is large enough": ([{"CPU": 1}, {"CPU": 4}, {"CPU": 1}], ["resources.cpu=4"], 1),
    "a head without cores": ([{}, {"CPU": 2}, {"CPU": 2}], [], 4),
    "a head without GPUs": ([{"CPU": 8}, {"CPU": 8, "GPU": 2}, {"CPU": 8, "GPU": 2}], [], 4),
    "six tenths fit each GPU once": ([{"CPU": 16, "GPU": 2}], ["resources.gpu=0.6"], 2),
    "a tenth fits ten times": ([{"CPU": 64, "GPU": 2}], ["resources.gpu=0.1"], 20),
    "two GPUs a trial, three a node": ([{"CPU": 16, "GPU": 3}] * 2, ["resources.gpu=2"], 2),
    "a node's share of a GPU": ([{"CPU": 4, "GPU": 0.5}], ["resources.gpu=0.25"], 2),
    "GPUs beside too few cores": ([{"CPU": 1, "GPU": 8}, {"CPU": 8}], ["resources.gpu=1"], 1),
}


@pytest.mark.parametrize(("nodes", "overrides", "concurrent"), SPREAD.values(), ids=SPREAD)
def test_a_trial_takes_its_place_on_one_node(
    new_config: Callable[..., SweepConfig],
    nodes: list[dict[str, float]],
    overrides: list[str],
    concurrent: int,
) -> None:
    config = new_config("search.trials=9999", "resources.pack=1", *overrides)
    assert fit_resources(config, nodes, LARGE, 10).concurrent == concurrent


# name: nodes, overrides, the error's text
TOO_LARGE: dict[str, tuple[list[dict[str, float]], str, str]] = {
    "cores": (
        [{"CPU": 2}],
        "resources.cpu=4",
        "a trial needs 4 cores and 0 GPUs on one node, the machine has 2",
    ),
    "GPUs": (
        [{"CPU": 2}],
        "resources.gpu=1",
        "1 cores and 1 GPUs on one node, the machine has 2 and 0: lower",
    ),
    "a share of a GPU": ([{"CPU": 2}], "resources.gpu=0.5", "lower resources.cpu or resources.gpu"),
    "cores of two nodes": ([{"CPU": 2}] * 3, "resources.cpu=3", "the largest of 3 nodes have 2 and 0: lower"),
    "GPUs of two nodes": (
        [{"CPU": 2, "GPU": 1}] * 2,
        "resources.gpu=2",
        "largest of 2 nodes have 2 and 1: lower",
    ),
    "cores here, GPUs there": (
        [{"CPU": 8}, {"CPU": 1, "GPU": 1}],
        "resources.cpu=4",
        "4 cores and 1 GPUs on one",
    ),
    "one and a half GPUs": (
        [{"CPU": 8, "GPU": 4}],
        "resources.gpu=1.5",
        "resources.gpu=1.5: more than one GPU",
    ),
    "an empty node": ([{}], "resources.cpu=1", "the machine has 0 and 0"),
    "no node": ([], "resources.cpu=1", "and the cluster has none"),
}


@pytest.mark.parametrize(("nodes", "override", "text"), TOO_LARGE.values(), ids=TOO_LARGE)
def test_a_trial_that_no_cluster_runs_is_refused(
    new_config: Callable[..., SweepConfig], nodes: list[dict[str, float]], override: str, text: str
) -> None:
    with pytest.raises(ResourcesError, match=text):
        fit_resources(new_config(override), nodes, LARGE, 10)


# name: overrides, bytes of the two nodes, the error's text
MEMORY: dict[str, tuple[list[str], list[float], str | None]] = {
    "a network that fits": (["model.hidden=[1000000]"], [5e9, 40e9], None),
    "no memory is told": (["model.hidden=[1000000]"], [0, 0], None),
    "a wide network": (
        ["model.hidden=[1000000]"],
        [5e9, 12e9],
        "training a member of the largest network takes 12.8 GB at least, and the largest node has 12.0 GB",
    ),
    "a wide one among others": (["model.hidden={choice: [[8], [1000000]]}"], [5e9, 12e9], "takes 12.8 GB"),
    "a deep one": (["model.hidden=[90000, 90000]"], [64e9, 64e9], "takes 130.8 GB at least"),
    "factors": (["model.hidden=[90000, 90000]", "model.factors={int: [1, 3]}"], [200e9, 200e9], "takes 39"),
    "a pack": (["model.hidden=[100000]", "resources.pack=12"], [5e9, 12e9], "training 12 members in one"),
    "a pack of more than there are": (["resources.pack=1000000", "search.trials=4"], [1e9, 1e9], None),
}


@pytest.mark.parametrize(("overrides", "nodes", "text"), MEMORY.values(), ids=MEMORY)
def test_a_member_that_fits_no_memory_is_refused(
    new_config: Callable[..., SweepConfig], overrides: list[str], nodes: list[float], text: str | None
) -> None:
    given = [{"CPU": 2.0, "memory": 0.7 * size, "object_store_memory": 0.3 * size} for size in nodes]
    config = new_config("model.factors=1", *overrides)
    if text is None:
        fit_resources(config, given, 784, 10)
        return
    with pytest.raises(ResourcesError, match=text):
        fit_resources(config, given, 784, 10)
    fit_resources(config, [node | {"GPU": 1.0} for node in given], 784, 10)  # what a GPU holds is not known
