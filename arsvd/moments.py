"""Run a model on calibration inputs and sum what its linear layers give."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

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
        Per layer the number of rows, the sums (out,) and the sums (out, out).

    Raises:
        ValueError: the model does not take the inputs, or a layer never ran.
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

        def record(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            rows = arguments[0].detach().reshape(-1, layer.in_features).to(weight.dtype)
            outputs = (rows @ weight.T).double()
            counts[name] += len(outputs)
            totals[name] += outputs.sum(0)
            seconds[name].addmm_(outputs.T, outputs)

        return layer.register_forward_pre_hook(record)

    handles = [watch(name, layer) for name, layer in layers.items()]
    try:
        with evaluation_mode(model), torch.no_grad():
            for batch in batches:
                _run(model, batch)
    finally:
        for handle in handles:
            handle.remove()
    silent = [name for name, count in counts.items() if count == 0]
    if silent:
        raise ValueError(
            f"layers {silent} never ran on the calibration inputs; "
            f"pass layers=[...] without them to leave them dense"
        )
    return {name: (counts[name], totals[name], seconds[name]) for name in layers}


def calibration_batches(calibration: Tensor | Iterable[Tensor], batch_size: int) -> Iterator[Tensor]:
    """Yield calibration inputs a batch at a time.

    Raises:
        ValueError: one tensor of fewer than two rows.
        TypeError: a batch is not a tensor.
    """
    if isinstance(calibration, Tensor):
        if calibration.ndim < 1 or len(calibration) < 2:
            raise ValueError(
                f"calibration needs at least 2 rows of inputs, "
                f"got a tensor of shape {tuple(calibration.shape)}"
            )
        yield from calibration.split(batch_size)
        return
    for batch in calibration:
        if not isinstance(batch, Tensor):
            raise TypeError(
                f"calibration batches must be tensors of inputs, got a {type(batch).__name__}; "
                f"of a loader that also gives labels, pass (inputs for inputs, _ in loader)"
            )
        yield batch


def _run(model: nn.Module, batch: Tensor) -> None:
    try:
        model(batch)
    except (RuntimeError, TypeError, IndexError) as error:
        raise ValueError(
            f"the model does not take calibration inputs of shape {tuple(batch.shape)} "
            f"and {batch.dtype}: {error}"
        ) from error
