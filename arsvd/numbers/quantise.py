"""Round the weights of a model to whole multiples of steps."""

from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn

from arsvd.batches import calibration_batches, feeding
from arsvd.calls import layer_input
from arsvd.copying import copied
from arsvd.formats import DENSE
from arsvd.layers import replace_layer
from arsvd.modes import evaluation_mode, unwrapped
from arsvd.numbers.coded import STEP_DTYPE, Coded, coded_names, format_of
from arsvd.roundings import ROUNDINGS, Levels
from arsvd.roundings.base import UNBOUNDED
from arsvd.sites.finding import survey

LARGEST_STEP = 64.0  # in units of the root mean square, where every weight is zero long since


@torch.no_grad()
def quantise(
    model: nn.Module,
    step: float = 1.0,
    calibration: Tensor | Iterable[Tensor] | None = None,
    rounding: str | None = None,
    bits: int | None = None,
    batch_size: int = 2048,
) -> nn.Module:
    """Replace the weights of a model's layers by codes: whole multiples of a step for each component.

    Layers of two factors have one step a component, shared by both factors; dense layers one an output. With
    inputs, GPTQ rounds each layer for what the layers before it, already rounded, give it.

    Args:
        model: dense or compressed model; it is not changed. Layers that are no sites stay as they are.
        step: step in units of the root mean square of a component's weights, above 0.
        calibration: inputs of the model (rows, …), or batches of them; no labels are needed.
        rounding: name of the rounding; by default "gptq" with inputs and "nearest" without.
        bits: width of the codes, from 1 to 32; unbounded when None, as suits adaptive coding.
        batch_size: number of rows per pass where `calibration` is one tensor.

    Returns:
        A new model in which each such layer is `Coded`; it computes what is stored, to the last bit.

    Raises:
        ValueError: the step is out of bounds, the rounding is unknown or needs inputs, the width is out of
            bounds, no layer can be coded, weights are not finite, or the model does not take the inputs.
    """
    if not 0.0 < step <= LARGEST_STEP:
        raise ValueError(f"a step is above 0 and at most {LARGEST_STEP:g} root mean squares, got {step}")
    rounding = rounding or ("nearest" if calibration is None else "gptq")
    if ROUNDINGS[rounding].calibrated and calibration is None:
        raise ValueError(f"the rounding {rounding!r} needs calibration inputs")
    levels = UNBOUNDED if bits is None else Levels.of_width(bits)
    batches = [] if calibration is None else list(calibration_batches(calibration, batch_size))
    with torch.inference_mode(False), unwrapped(model) as plain:
        holder = nn.Sequential(copied(plain))  # so that a model that is one layer has a parent as well
        for name, layer in _layers(holder[0]).items():
            if not all(bool(torch.isfinite(parameter).all()) for parameter in layer.parameters()):
                raise ValueError(f"layer {name!r} holds NaN or infinite weights; it cannot be rounded")
            mode = layer.training
            seconds = _second_moments(holder[0], layer, batches) if ROUNDINGS[rounding].calibrated else {}
            coded = _coded(layer, step, rounding, levels, seconds)
            replace_layer(holder, layer, coded.train(mode))
        return holder[0]


def _layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return the layers to code by name: the sites that are dense, and the layers in other formats."""
    sites = survey(model)[0]
    found: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        try:
            own = format_of(module)
        except ValueError:
            continue
        if own.coded and (own.name != DENSE or name in sites):
            found[name] = module
    if not found:
        raise ValueError(f"{type(model).__name__} holds no layer whose weights can be rounded")
    return found


def _coded(layer: nn.Module, step: float, rounding: str, levels: Levels, seconds: dict[str, Tensor]) -> Coded:
    """Round one layer."""
    format, names = format_of(layer), coded_names(layer)
    steps = (step * _root_mean_squares(layer)).to(STEP_DTYPE)
    smallest = torch.finfo(STEP_DTYPE).smallest_normal
    steps = steps.clamp_min(smallest)  # components of zeros have one all the same
    codes = {}
    for name in names:
        weight = cast(Tensor, getattr(layer, name)).detach().double()
        spread = format.spread(layer, name, steps.double()).expand_as(weight)
        rows = (weight.flatten(1), spread.flatten(1))
        codes[name] = ROUNDINGS[rounding].codes(*rows, seconds.get(name), levels).reshape(weight.shape)
    return Coded(layer, codes, steps, levels.offset)


def _root_mean_squares(layer: nn.Module) -> Tensor:
    """Return the root mean square of the weights that share a step, (n,) in float64."""
    format = format_of(layer)
    count = format.steps(layer)
    squares, numbers = torch.zeros(2, count, dtype=torch.float64, device=next(layer.parameters()).device)
    for name in coded_names(layer):
        weight = cast(Tensor, getattr(layer, name)).detach().double()
        places = format.spread(layer, name, torch.arange(count, device=weight.device)).expand_as(weight)
        squares.scatter_add_(0, places.reshape(-1), weight.square().reshape(-1))
        numbers.scatter_add_(0, places.reshape(-1), torch.ones_like(weight).reshape(-1))
    found: Tensor = (squares / numbers.clamp_min(1)).sqrt()
    return found


def _second_moments(model: nn.Module, layer: nn.Module, batches: list[Tensor]) -> dict[str, Tensor]:
    """Sum x x^T over the inputs of each coded parameter; none where its inputs are no rows of features."""
    if any(cast(Tensor, getattr(layer, name)).ndim != 2 for name in coded_names(layer)):
        return {}
    format, sums, rows = format_of(layer), dict[str, Tensor](), 0

    def take(_: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        nonlocal rows
        x = layer_input(arguments, keywords).detach()
        for name, met in format.inputs(layer, x).items():
            flat = met.reshape(-1, met.shape[-1]).double()
            if name not in sums:
                sums[name] = flat.new_zeros(flat.shape[1], flat.shape[1])
            sums[name].addmm_(flat.T, flat)
        rows += len(x)

    handle = layer.register_forward_pre_hook(take, with_kwargs=True)
    try:
        with evaluation_mode(model):
            for batch in batches:
                with feeding(batch, "calibration inputs"):
                    model(batch)
    finally:
        handle.remove()
    return {name: total / max(1, rows) for name, total in sums.items()}
