"""Run a model on calibration inputs and sum what its linear layers give."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from arsvd.batches import feeding
from arsvd.calls import layer_input
from arsvd.modes import evaluation_mode


def output_moments(
    model: nn.Module, layers: dict[str, nn.Linear], batches: Iterable[Tensor]
) -> dict[str, tuple[int, Tensor, Tensor]]:
    """Run a model and sum z and z z^T of every layer's z = Wx (without bias), in float64.

    Args:
        model: it is not changed.
        layers: name to layer.
        batches: inputs of the model.

    Returns:
        Per layer that ran the number of rows, the sums (out,) and the sums (out, out).

    Raises:
        ValueError: the model does not take the inputs.
    """
    counts = dict.fromkeys(layers, 0)
    totals = {
        n: torch.zeros(m.out_features, dtype=torch.float64, device=m.weight.device) for n, m in layers.items()
    }
    seconds = {n: torch.outer(t, t) for n, t in totals.items()}

    def watch(name: str, layer: nn.Linear) -> torch.utils.hooks.RemovableHandle:
        # in float32 also for half-precision models: rounding z to bfloat16 would add noise of its own
        weight = layer.weight.detach()
        weight = weight if weight.dtype == torch.float64 else weight.float()

        def record(_: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
            rows = layer_input(arguments, keywords).detach().reshape(-1, layer.in_features).to(weight.dtype)
            outputs = (rows @ weight.T).double()
            counts[name] += len(outputs)
            totals[name] += outputs.sum(0)
            seconds[name].addmm_(outputs.T, outputs)

        return layer.register_forward_pre_hook(record, with_kwargs=True)

    handles = [watch(name, layer) for name, layer in layers.items()]
    try:
        with evaluation_mode(model), torch.no_grad():
            for batch in batches:
                with feeding(batch, "calibration inputs"):
                    model(batch)
    finally:
        for handle in handles:
            handle.remove()
    return {name: (counts[name], totals[name], seconds[name]) for name in layers if counts[name]}
