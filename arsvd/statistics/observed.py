"""What is observed at sites while a model, or a pack of models, runs on calibration inputs."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arsvd.batches import check_logits, feeding
from arsvd.calls import layer_input
from arsvd.modes import evaluation_mode
from arsvd.sites import Site

PROBES = 4
TEMPERATURE = 2.0
DAMPING = 0.01


@dataclass
class Moments:
    """Sums of z = Wx over calibration rows, in float64.

    Attributes:
        rows: number of rows seen.
        total: sums of z, (…, out); leading dimensions are groups of outputs, or members of a pack.
        second: sums of z z^T, (…, out, out).
    """

    rows: int
    total: Tensor
    second: Tensor

    def add(self, z: Tensor) -> None:
        """Add products (…, rows, out)."""
        z = z.double()
        self.rows += z.shape[-2]
        self.total += z.sum(-2)
        _add_squares(self.second, z)


@dataclass(frozen=True)
class Observed:
    """A site, and what was observed at it.

    Attributes:
        name: path of the layer in its model.
        site: site that was observed.
        moments: moments of the site's outputs; None in the weight basis.
        metric: metric in which errors of the outputs count, (…, out, out); None where all count alike.
        positions: number of rows that the site's matrix multiplies for one input row of the model.
    """

    name: str
    site: Site
    moments: Moments | None = None
    metric: Tensor | None = None
    positions: float = 1.0


class Watched(Protocol):
    """The part of a site that observing needs; a layer of a pack has it too."""

    @property
    def layer(self) -> nn.Module:
        """The module whose calls are observed."""
        ...

    def products(self, x: Tensor) -> Tensor:
        """Return z = Wx, (…, rows, out)."""
        ...

    def outputs(self, y: Tensor) -> Tensor:
        """View outputs of the layer as (…, rows, out)."""
        ...


def output_moments(
    model: nn.Module, sites: Mapping[str, Watched], batches: Iterable[Tensor]
) -> dict[str, Moments]:
    """Run a model and sum z and z z^T of every site's z = Wx (without the bias), in float64.

    Args:
        model: model to run; it is not changed.
        sites: sites of the model, by name.
        batches: inputs of the model.

    Returns:
        The moments of each site that ran, by name.

    Raises:
        ValueError: the model does not take the inputs.
    """
    found: dict[str, Moments] = {}

    def watch(name: str, site: Watched) -> torch.utils.hooks.RemovableHandle:
        def record(_: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
            z = site.products(layer_input(arguments, keywords).detach())
            if name not in found:
                total = z.new_zeros((*z.shape[:-2], z.shape[-1]), dtype=torch.float64)
                found[name] = Moments(0, total, total[..., :, None] * total[..., None, :])
            found[name].add(z)

        return site.layer.register_forward_pre_hook(record, with_kwargs=True)

    handles = [watch(name, site) for name, site in sites.items()]
    try:
        with evaluation_mode(model), torch.no_grad():
            for batch in batches:
                with feeding(batch, "calibration inputs"):
                    model(batch)
    finally:
        for handle in handles:
            handle.remove()
    return {name: found[name] for name in sites if name in found and found[name].rows}


def output_fisher(
    model: nn.Module,
    sites: Mapping[str, Watched],
    batches: Iterable[Tensor],
    seed: int = 0,
    members: bool = False,
) -> dict[str, Tensor]:
    """Estimate the Fisher information of each site's outputs, F = E[g g^T].

    g is the gradient of -log p(y | x) with respect to the site's outputs, with y drawn from the model's
    own prediction: no labels are needed. To second order, an error d in the outputs costs d^T F d / 2 nats.
    Predictions are softened with a temperature of 2: a trained classifier is certain about nearly every
    training image, and without the temperature F would depend on the few others (measured on MNIST: between 1
    and 4 the temperature hardly matters).

    Args:
        model: model from (rows, …) to logits (rows, classes); it is not changed.
        sites: sites of the model, by name.
        batches: inputs of the model.
        seed: seed of the drawn labels.
        members: True if the logits are those of a pack, (members, rows, classes).

    Returns:
        A symmetric float64 matrix (…, out, out) for each site that ran, by name. It may have no inverse; see
        `damped`.

    Raises:
        ValueError: the model's outputs are not logits of shape (rows, classes).

    Source:
        The Fisher as a metric of a layer's outputs: Martens and Grosse 2015 (K-FAC), whose assumption that
        curvature and inputs are independent is made here as well.
    """
    sums: dict[str, Tensor] = {}
    seen: list[tuple[str, Tensor]] = []

    def watch(name: str) -> Callable[[nn.Module, object, Tensor], Tensor]:
        def record(module: nn.Module, arguments: object, outputs: Tensor) -> Tensor:
            if not outputs.requires_grad:  # a model with frozen parameters
                outputs = outputs.detach().requires_grad_()
            if name not in sums:
                view = sites[name].outputs(outputs.detach())
                *groups, _, size = view.shape
                sums[name] = view.new_zeros((*groups, size, size), dtype=torch.float64)
            seen.append((name, outputs))
            return outputs.clone()  # the next operation may work in place

        return record

    def add(name: str, gradient: Tensor) -> None:
        _add_squares(sums[name], sites[name].outputs(gradient).double())

    # before the model's own hooks: what counts are the layer's outputs, not what hooks make of them
    handles = [site.layer.register_forward_hook(watch(name), prepend=True) for name, site in sites.items()]
    rows, draws = 0, LabelDraws(seed)
    try:
        with evaluation_mode(model), torch.enable_grad():
            for batch in batches:
                seen.clear()
                logits = model(batch)
                if not members:
                    check_logits(logits, "the loss basis needs")
                rows += logits.shape[-2]
                _backward(seen, logits.float() / TEMPERATURE, draws, add)
    finally:
        for handle in handles:
            handle.remove()
    return {name: total / max(1, rows * PROBES) for name, total in sums.items()}


def _backward(
    seen: list[tuple[str, Tensor]], logits: Tensor, draws: "LabelDraws", add: Callable[[str, Tensor], None]
) -> None:
    log_p = F.log_softmax(logits, dim=-1)
    labels = draws.labels(log_p.detach().exp())
    outputs = [tensor for _, tensor in seen]
    for probe in range(PROBES):
        loss = -log_p.gather(-1, labels[..., probe, None]).sum()
        gradients = torch.autograd.grad(loss, outputs, retain_graph=probe < PROBES - 1, allow_unused=True)
        for (name, _), gradient in zip(seen, gradients, strict=True):
            if gradient is not None:
                add(name, gradient)


def _add_squares(total: Tensor, rows: Tensor) -> None:
    """Add the sum of z z^T over rows (…, rows, out) to a total (…, out, out)."""
    if rows.ndim == 2:
        total.addmm_(rows.T, rows)
    else:
        total.baddbmm_(rows.mT, rows)


class LabelDraws:
    """Draws labels from predictions, row by row, with one sequence of random numbers.

    The numbers depend only on the seed and on a row's place: not on the device, on how rows are batched, or
    on how many models draw labels with them.

    Args:
        seed: seed of the sequence.
    """

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def labels(self, probabilities: Tensor) -> Tensor:
        """Draw labels for the next rows, with the same numbers for every model.

        Args:
            probabilities: probabilities (…, rows, classes), with leading dimensions for several models.

        Returns:
            Labels (…, rows, PROBES), int64.
        """
        rows, classes = probabilities.shape[-2:]
        numbers = torch.rand(rows, PROBES, generator=self._generator, dtype=torch.float64)
        if probabilities.is_cuda:  # with pinned memory the host need not wait for the device
            numbers = numbers.pin_memory()
        sums = probabilities.double().cumsum(-1)
        wanted = numbers.to(sums.device, non_blocking=True) * sums[..., -1:]
        # right: a number equal to a sum belongs to the next class, so a class of probability 0 gets none
        return torch.searchsorted(sums, wanted, right=True).clamp_max(classes - 1)


def damped(second: Tensor) -> Tensor:
    """Add 1 % of its mean diagonal to second moments E[v v^T] (…, n, n), so that they have an inverse."""
    mean = second.diagonal(dim1=-2, dim2=-1).mean(-1)
    # where all are zero, as for a layer that does not affect the loss at all, every direction counts alike
    level = torch.where(mean > 0, DAMPING * mean, 1.0)
    one = torch.eye(second.shape[-1], dtype=second.dtype, device=second.device)
    return second + level[..., None, None] * one
