"""Fit a sweep's trials to the available cores and GPUs."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from arsvd.options.forms import IntRange, LogUniform, Uniform
from arsvd.training import Architecture, new_architecture
from arsvd.training.methods import METHODS
from arsvd.training.sizing import member_bytes, pack_size, trained_params
from sweeps.config import MemberConfig, SweepConfig
from sweeps.config.checking import choices
from sweeps.trial.settings import method_settings

SAMPLES = 60_000  # approximate number of training images: their order takes memory for each member


class ResourcesError(ValueError):
    """The cluster cannot run a single trial of this sweep."""


@dataclass(frozen=True)
class TrialResources:
    """The resources of one trial, and how many trials run at a time.

    Attributes:
        cpu: number of cores per trial.
        gpu: number of GPUs per trial.
        pack: largest number of members per trial.
        concurrent: largest number of trials at a time.
        alike: True if a trial's members are of one kind, and as many as pay off at their size; see `room`.
    """

    cpu: float
    gpu: float
    pack: int
    concurrent: int
    alike: bool = False

    @property
    def threads(self) -> int:
        """The number of threads that torch may use in a trial."""
        return max(1, int(self.cpu))


def fit_resources(
    config: SweepConfig,
    nodes: Sequence[Mapping[str, float]],
    features: int,
    classes: int,
    members: int | None = None,
) -> TrialResources:
    """Resolve `auto` and check what is fixed.

    Args:
        config: configuration of the sweep.
        nodes: resources of each node of the cluster, such as "CPU" and "GPU"; a trial runs on one node.
        features: number of inputs of the networks.
        classes: number of outputs of the networks.
        members: number of members to train; `search.trials` when None.

    Raises:
        ResourcesError: one trial needs more than any node has, or more than one GPU but no whole number of
            them.
    """
    wanted = config.resources
    gpu = _gpus(nodes) if wanted.gpu == "auto" else float(wanted.gpu)
    if gpu > 1 and gpu != int(gpu):
        raise ResourcesError(
            f"resources.gpu={gpu:g}: more than one GPU a trial must be a whole number of them"
        )
    room = sum(_places(node, wanted.cpu, gpu) for node in nodes)
    if room == 0:
        raise ResourcesError(
            f"a trial needs {wanted.cpu:g} cores and {gpu:g} GPUs on one node, {_has(nodes)}: "
            f"lower resources.cpu or resources.gpu"
        )
    if gpu == 0:
        _require_memory(config, nodes, features, classes)
    trials = config.search.trials if members is None else members
    concurrent = max(1, min(room, trials))
    if wanted.concurrent != "auto":
        concurrent = min(concurrent, wanted.concurrent)
    if wanted.pack == "auto":
        device = "cuda" if gpu > 0 else "cpu"
        network = _extreme(config, features, classes, max if gpu > 0 else min)
        batch = max(choices(config.training.batch_size))
        pack = pack_size(network, batch, SAMPLES, device, gpu or 1.0)
        pack = max(1, min(pack, trials // (2 * concurrent)))  # at least two rounds, so that the search learns
    else:
        pack = wanted.pack
    alike = wanted.pack == "auto" and gpu == 0 and pack > 1
    concurrent = min(concurrent, -(-trials // pack))
    return TrialResources(wanted.cpu, gpu, pack, concurrent, alike)


def _require_memory(
    config: SweepConfig, nodes: Sequence[Mapping[str, float]], features: int, classes: int
) -> None:
    """Refuse a network whose training fits into no node's memory.

    Raises:
        ResourcesError: the search space contains such a network.
    """
    # Ray divides the memory that was free when it started into these two
    most = max(node.get("memory", 0.0) + node.get("object_store_memory", 0.0) for node in nodes)
    pack = 1 if config.resources.pack == "auto" else min(config.resources.pack, config.search.trials)
    # one image per step: a batch is never larger than the data set, whose size is not known here
    needed = pack * member_bytes(_extreme(config, features, classes, max), 1, 0)
    if 0 < most < needed:
        what = "a member" if pack == 1 else f"{pack} members in one pack"
        raise ResourcesError(
            f"training {what} of the largest network takes {needed / 1e9:.1f} GB at least, and the largest "
            f"node has {most / 1e9:.1f} GB of memory: lower model.hidden, model.factors or resources.pack"
        )


def room(member: MemberConfig, features: int, classes: int) -> int:
    """Return how many members like this one pay off in one pack on a CPU."""
    network = new_architecture([features, *member.hidden, classes], method_settings(member))
    return pack_size(network, member.batch_size, SAMPLES, "cpu")


def _gpus(nodes: Sequence[Mapping[str, float]]) -> float:
    """Return the GPUs of a trial where the sweep file leaves them open: a whole one where a node has one."""
    return 1.0 if any(node.get("GPU", 0.0) >= 1 for node in nodes) else 0.0


def _places(node: Mapping[str, float], cpu: float, gpu: float) -> int:
    """Return how many trials a node holds; a share of a GPU comes from one GPU, so 0.6 fits each GPU once."""
    places = _times(node.get("CPU", 0.0), cpu)
    if gpu == 0:
        return places
    gpus = node.get("GPU", 0.0)
    if gpu >= 1:
        return min(places, _times(gpus, gpu))
    whole = int(gpus)
    return min(places, whole * _times(1.0, gpu) + _times(gpus - whole, gpu))


def _times(whole: float, part: float) -> int:
    return int(whole / part + 1e-9)  # 0.1 fits 10 times into 1, whatever the rounding


def _has(nodes: Sequence[Mapping[str, float]]) -> str:
    if not nodes:
        return "and the cluster has none"
    cpus = max(node.get("CPU", 0.0) for node in nodes)
    gpus = max(node.get("GPU", 0.0) for node in nodes)
    most = "the machine has" if len(nodes) == 1 else f"the largest of {len(nodes)} nodes have"
    return f"{most} {cpus:g} and {gpus:g}"


def _extreme(
    config: SweepConfig, features: int, classes: int, which: Callable[..., Architecture]
) -> Architecture:
    """Return the network of the search space with the most or the fewest trained parameters."""
    shaping = [method for _, method in METHODS.items() if method.shapes()]
    ends = {option.key: _ends(config[option.key]) for method in shaping for option in method.options}
    return which(
        (
            new_architecture([features, *hidden, classes], dict(zip(ends, values, strict=True)))
            for hidden, *values in itertools.product(choices(config.model.hidden), *ends.values())
        ),
        key=trained_params,
    )


def _ends(value: Any) -> tuple[Any, ...]:
    """Return the values of a key at which a network may be the largest or the smallest."""
    bounded = isinstance(value, IntRange | LogUniform | Uniform)
    return (value.low, value.high) if bounded else choices(value)
