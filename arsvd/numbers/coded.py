"""A layer whose weights are whole multiples of steps."""

import copy
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from arsvd.formats import DENSE, FORMATS, Format
from arsvd.layers import replace_layer
from arsvd.sites.finding import site_of

# codes are held in the narrowest of these that has room for them
_WIDTHS = (torch.int8, torch.int16, torch.int32)
STEP_DTYPE = torch.float16  # of steps and biases, as they are stored


class Coded(nn.Module):
    """A layer that computes with the weights that its codes and steps stand for.

    Weights are restored once, when the codes are there: calls are as fast as those of the layer itself. The
    state holds the codes, the steps and the bias alone.

    Args:
        layer: layer with these weights; its coded parameters become buffers that are no part of the state.
        codes: codes of each coded parameter, by name; whole numbers of the parameter's shape.
        steps: positive steps (n,), as many as the layer's format says.
        offset: part of a step that is added to each code.

    Raises:
        ValueError: the layer's format has no codes, or these are not of its parameters.
    """

    def __init__(
        self, layer: nn.Module, codes: Mapping[str, Tensor], steps: Tensor, offset: float = 0.0
    ) -> None:
        super().__init__()
        names = coded_names(layer)
        if not names or {*codes} != {*names}:
            raise ValueError(f"a {type(layer).__name__} has codes for {list(names)}, got {list(codes)}")
        self.layer, self.offset = layer, offset
        self.register_buffer("steps", steps.detach())
        for name in names:
            wanted = cast(Tensor, getattr(layer, name))
            if codes[name].shape != wanted.shape:
                raise ValueError(f"{name} is {tuple(wanted.shape)}, its codes are {tuple(codes[name].shape)}")
            self.register_buffer(f"{name}_codes", narrowest(codes[name].detach()))
        bias = layer._parameters.get("bias")
        self.register_buffer("bias_stored", None if bias is None else bias.detach().to(STEP_DTYPE))
        for name in (*names, *(("bias",) if bias is not None else ())):
            value = layer._parameters.pop(name)
            layer.register_buffer(name, value.detach(), persistent=False)  # type: ignore[union-attr]
        self.restore()

    @classmethod
    def empty(cls, layer: nn.Module, offset: float) -> "Coded":
        """Make a coded layer without numbers, for a state to be loaded into.

        Args:
            layer: layer on the meta device, whose dtype the restored weights have.
            offset: part of a step that is added to each code.

        Raises:
            ValueError: the layer's format has no codes.
        """
        codes = {name: torch.zeros_like(getattr(layer, name)) for name in coded_names(layer)}
        steps = torch.zeros(format_of(layer).steps(layer), dtype=STEP_DTYPE, device="meta") if codes else None
        return cls(layer, codes, torch.zeros(0) if steps is None else steps, offset)

    def restore(self) -> None:
        """Compute the weights from the codes, in the dtype that they have."""
        for name in coded_names(self.layer):
            codes, like = self.codes(name), cast(Tensor, self.layer._buffers[name])
            steps = format_of(self.layer).spread(self.layer, name, cast(Tensor, self.steps).float())
            self.layer._buffers[name] = ((codes.float() + self.offset) * steps).to(like.dtype)
        if self.bias_stored is not None:
            like = cast(Tensor, self.layer._buffers["bias"])
            self.layer._buffers["bias"] = cast(Tensor, self.bias_stored).to(like.dtype)

    def codes(self, name: str) -> Tensor:
        """Return the codes of a parameter."""
        found: Tensor = getattr(self, f"{name}_codes")
        return found

    @property
    def weight(self) -> Tensor:
        """The weight that the codes stand for, as the dense layer has it."""
        found: Tensor = self.layer.weight  # type: ignore[assignment]
        return found

    @property
    def bias(self) -> Tensor | None:
        """The bias, in the dtype of the weight."""
        found: Tensor | None = self.layer.bias  # type: ignore[assignment]
        return found

    def forward(self, *arguments: Any, **keywords: Any) -> Any:
        """Call the layer."""
        return self.layer(*arguments, **keywords)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *rest)
        self.restore()


def format_of(layer: nn.Module) -> Format:
    """Return the format that a layer is of.

    Raises:
        ValueError: it is of none.
    """
    if site_of(layer) is not None:
        return FORMATS[DENSE]
    for name in FORMATS:
        if (format := FORMATS[name]).options(layer) is not None:
            return format
    raise ValueError(f"a {type(layer).__name__} is of no format")


def coded_names(layer: nn.Module) -> tuple[str, ...]:
    """Return the parameters of a layer that are coded, in the order in which its inputs meet them."""
    return format_of(layer).coded


def narrowest(codes: Tensor) -> Tensor:
    """Hold codes in as few bytes as they fit in; on the meta device, where there are none, as they are.

    Raises:
        ValueError: a code has more than 32 bits.
    """
    if codes.is_meta:
        return codes
    low, high = (int(codes.min()), int(codes.max())) if codes.numel() else (0, 0)
    for dtype in _WIDTHS:
        if torch.iinfo(dtype).min <= low <= high <= torch.iinfo(dtype).max:
            return codes.to(dtype)
    raise ValueError(f"codes have at most 32 bits, got {low} … {high}")


def float_form(model: nn.Module) -> nn.Module:
    """Return a model with floats in the place of its codes; the model itself where it has none."""
    if not any(isinstance(module, Coded) for module in model.modules()):
        return model
    holder = nn.Sequential(copy.deepcopy(model))  # so that a model that is one layer has a parent as well
    for module in list(holder.modules()):
        if isinstance(module, Coded):
            replace_layer(holder, module, _as_float(module))
    return holder[0]


def _as_float(coded: Coded) -> nn.Module:
    layer = coded.layer
    for name in (*coded_names(layer), "bias"):
        if (value := layer._buffers.pop(name, None)) is not None:
            layer._non_persistent_buffers_set.discard(name)
            layer.register_parameter(name, nn.Parameter(value))
    return layer.train(coded.training)
