"""How much each output of a linear layer matters to the model's loss."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arsvd.batches import check_logits
from arsvd.modes import evaluation_mode

PROBES = 4
TEMPERATURE = 2.0
DAMPING = 0.01


def output_fisher(
    model: nn.Module, layers: dict[str, nn.Linear], batches: Iterable[Tensor], seed: int = 0
) -> dict[str, Tensor]:
    """Estimate the Fisher information of each layer's outputs, F = E[g g^T].

    g is the gradient of -log p(y | x) with respect to the layer's outputs, with y drawn from the model's
    own prediction: no labels are needed. To second order an error d in the outputs costs d^T F d / 2 nats.
    Predictions are softened with a temperature of 2: a trained classifier is sure of nearly every training
    image, so that without it F would rest on the few that are left (measured on MNIST: between 1 and 4 the
    temperature hardly matters).

    Args:
        model: maps (rows, …) to logits (rows, classes); it is not changed.
        layers: name to layer.
        batches: inputs of the model.
        seed: of the drawn labels.

    Returns:
        Name to (out, out) float64, symmetric, damped by 1 % of its mean diagonal so that it has an inverse.

    Raises:
        ValueError: the model's outputs are not logits of shape (rows, classes).

    Source:
        The Fisher as a metric of a layer's outputs: Martens and Grosse 2015 (K-FAC), whose assumption that
        curvature and inputs are independent is made here as well.
    """
    sums = {
        name: torch.zeros(m.out_features, m.out_features, dtype=torch.float64, device=m.weight.device)
        for name, m in layers.items()
    }
    seen: list[tuple[str, Tensor]] = []

    def watch(name: str) -> object:
        def record(_: nn.Module, __: object, outputs: Tensor) -> Tensor:
            if not outputs.requires_grad:  # a model with frozen parameters
                outputs = outputs.detach().requires_grad_()
            seen.append((name, outputs))
            return outputs.clone()  # what follows may work in place

        return record

    # before the model's own hooks: what is wanted are the layer's outputs, not what becomes of them
    handles = [
        layer.register_forward_hook(watch(name), prepend=True)  # type: ignore[arg-type]
        for name, layer in layers.items()
    ]
    rows, draws = 0, LabelDraws(seed)
    try:
        with evaluation_mode(model), torch.enable_grad():
            for batch in batches:
                seen.clear()
                logits = model(batch)
                check_logits(logits, "the loss basis needs")
                rows += len(logits)
                _accumulate(sums, seen, logits.float() / TEMPERATURE, draws)
    finally:
        for handle in handles:
            handle.remove()
    return {name: damped(total / max(1, rows * PROBES)) for name, total in sums.items()}


class LabelDraws:
    """Draws labels from predictions, row after row from one sequence of random numbers.

    The numbers depend on the seed and on a row's place alone: not on the device, on how rows are batched, or
    on how many models draw labels from them.

    Args:
        seed: of the sequence.
    """

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def labels(self, probabilities: Tensor) -> Tensor:
        """Draw labels for the next rows, the same numbers for every model.

        Args:
            probabilities: (…, rows, classes), leading dimensions for several models.

        Returns:
            (…, rows, PROBES) int64.
        """
        rows, classes = probabilities.shape[-2:]
        numbers = torch.rand(rows, PROBES, generator=self._generator, dtype=torch.float64)
        if probabilities.is_cuda:  # from pinned memory the host need not wait for the device
            numbers = numbers.pin_memory()
        sums = probabilities.double().cumsum(-1)
        wanted = numbers.to(sums.device, non_blocking=True) * sums[..., -1:]
        # right: a number equal to a sum belongs to the class after it, so a class of probability 0 has none
        return torch.searchsorted(sums, wanted, right=True).clamp_max(classes - 1)


def _accumulate(
    sums: dict[str, Tensor], seen: list[tuple[str, Tensor]], logits: Tensor, draws: LabelDraws
) -> None:
    log_p = F.log_softmax(logits, dim=-1)
    labels = draws.labels(log_p.detach().exp())
    outputs = [tensor for _, tensor in seen]
    for probe in range(PROBES):
        loss = F.nll_loss(log_p, labels[:, probe], reduction="sum")
        gradients = torch.autograd.grad(loss, outputs, retain_graph=probe < PROBES - 1, allow_unused=True)
        for (name, _), gradient in zip(seen, gradients, strict=True):
            if gradient is not None:
                flat = gradient.reshape(-1, gradient.shape[-1]).double()
                sums[name].addmm_(flat.T, flat)


def damped(fisher: Tensor) -> Tensor:
    """Add 1 % of its mean diagonal to the Fisher information (…, out, out), so that it has an inverse."""
    mean = fisher.diagonal(dim1=-2, dim2=-1).mean(-1)
    # a layer that the loss does not feel at all: every direction counts alike
    level = torch.where(mean > 0, DAMPING * mean, 1.0)
    one = torch.eye(fisher.shape[-1], dtype=fisher.dtype, device=fisher.device)
    return fisher + level[..., None, None] * one
