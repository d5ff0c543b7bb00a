"""Fit a sweep's trials to the cores and GPUs there are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from arsvd.training.sizing import pack_size
from sweeps.config import SweepConfig
from sweeps.config.schema import options
from sweeps.fronts import reference_size

SAMPLES = 60_000  # training images, about: their order takes memory a member


class ResourcesError(ValueError):
    """The cluster cannot run a single trial of this sweep."""


@dataclass(frozen=True)
class TrialResources:
    """What one trial takes, and how many run at a time.

    Attributes:
        cpu: cores a trial.
        gpu: GPUs a trial.
        pack: members a trial.
        concurrent: most trials at a time.
    """

    cpu: float
    gpu: float
    pack: int
    concurrent: int

    @property
    def threads(self) -> int:
        """Threads that torch may use in a trial."""
        return max(1, int(self.cpu))


def fit_resources(
    config: SweepConfig,
    cluster: Mapping[str, float],
    features: int,
    classes: int,
    members: int | None = None,
) -> TrialResources:
    """Resolve `auto` and check what is fixed.

    Args:
        config: the sweep file.
        cluster: total "CPU" and "GPU" of the cluster.
        features: inputs of the networks.
        classes: outputs of the networks.
        members: how many are to be trained; `search.trials` when None.

    Raises:
        ResourcesError: one trial needs more than there is.
    """
    wanted = config.resources
    cpus, gpus = cluster.get("CPU", 0.0), cluster.get("GPU", 0.0)
    gpu = (1.0 if gpus >= 1 else 0.0) if wanted.gpu == "auto" else float(wanted.gpu)
    if wanted.cpu > cpus or gpu > gpus:
        raise ResourcesError(
            f"a trial needs {wanted.cpu:g} cores and {gpu:g} GPUs, the cluster has {cpus:g} and {gpus:g}: "
            f"lower resources.cpu or resources.gpu"
        )
    room = int(min(cpus / wanted.cpu, gpus / gpu if gpu > 0 else float("inf")))
    trials = config.search.trials if members is None else members
    concurrent = max(1, min(room, trials))
    if wanted.concurrent != "auto":
        concurrent = min(concurrent, wanted.concurrent)
    if wanted.pack == "auto":
        pack = pack_size(
            _largest(config, features, classes),
            max(options(config.training.batch_size)),
            SAMPLES,
            "cuda" if gpu > 0 else "cpu",
            gpu or 1.0,
        )
        pack = max(1, min(pack, trials // (2 * concurrent)))  # at least two rounds, or nothing is learnt
    else:
        pack = wanted.pack
    return TrialResources(cpu=wanted.cpu, gpu=gpu, pack=pack, concurrent=min(concurrent, -(-trials // pack)))


def _largest(config: SweepConfig, features: int, classes: int) -> list[int]:
    """Return the widths of the network of the search space that has the most parameters."""
    networks: Sequence[Sequence[int]] = options(config.model.hidden)
    return max(
        ([features, *hidden, classes] for hidden in networks), key=lambda widths: reference_size(widths)[0]
    )
