"""Two-dimensional convolutions, dense and of two factors."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arsvd.leaves import Leaf
from arsvd.sites.base import Site

# arguments of `nn.Conv2d`, which it keeps as attributes
_ARGUMENTS = (
    *("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups"),
    "padding_mode",
)


class LowRankConv2d(nn.Module):
    """A convolution to `rank` channels per group, followed by a 1x1 convolution to the outputs.

    `right` (groups * rank, in / groups, height, width) is the weight of the first convolution, `left`
    (out, rank) that of the second. Stride, padding and dilation belong to the first.

    Args:
        rank: number of channels in between, at least 1, per group.
        bias: True if a bias is added.
        device: device of the factors.
        dtype: dtype of the factors.
        window: other arguments of `nn.Conv2d`.

    Raises:
        ValueError: the rank is below 1, or the arguments do not make a convolution.

    Source:
        A spatial convolution to few channels and a 1x1 convolution: Zhang et al. 2015 (arXiv 1505.06798).
    """

    groups: int

    def __init__(
        self,
        rank: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **window: Any,
    ) -> None:
        super().__init__()
        if rank < 1:
            raise ValueError(f"a low-rank convolution needs a rank of at least 1, got {rank}")
        dense = nn.Conv2d(**window, bias=bias, device="meta")
        for name in (*_ARGUMENTS, "_reversed_padding_repeated_twice"):  # what `_conv_forward` reads
            setattr(self, name, getattr(dense, name))
        self.rank = rank
        outputs, *patch = dense.weight.shape
        self.right = nn.Parameter(torch.empty(dense.groups * rank, *patch, device=device, dtype=dtype))
        self.left = nn.Parameter(torch.empty(outputs, rank, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(outputs, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise both factors as `nn.Conv2d` initialises its weight."""
        for factor in (self.right, self.left):
            nn.init.kaiming_uniform_(factor, a=math.sqrt(5))
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    @property
    def weight(self) -> Tensor:
        """The product of the factors, (out, in / groups, height, width), like the weight of `nn.Conv2d`."""
        left = self.left.unflatten(0, (self.groups, -1))
        right = self.right.flatten(1).unflatten(0, (self.groups, -1))
        product: Tensor = left @ right
        found: Tensor = product.flatten(0, 1).unflatten(1, self.right.shape[1:])
        return found

    def forward(self, input: Tensor) -> Tensor:
        """Map (…, in, height, width) to (…, out, height, width)."""
        reduced = nn.Conv2d._conv_forward(self, input, self.right, None)  # type: ignore[arg-type]
        return F.conv2d(reduced, self.left[:, :, None, None], self.bias, groups=self.groups)

    def extra_repr(self) -> str:
        """Describe the shape in `print(model)`."""
        window = f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"
        return f"{self.in_channels}, {self.out_channels}, rank={self.rank}, {window}, groups={self.groups}"


def _options(layer: Any) -> dict[str, object]:
    """Return the options that a convolution is built with, as JSON-able values."""
    padding = layer.padding if isinstance(layer.padding, str) else "explicit"
    amounts = [0, 0] if isinstance(layer.padding, str) else list(layer.padding)
    return {
        "group_channels": layer.in_channels // layer.groups,
        "kernel_size": list(layer.kernel_size),
        "stride": list(layer.stride),
        "padding": padding,
        "amounts": amounts,
        "dilation": list(layer.dilation),
        "bias": layer.bias is not None,
    }


_WINDOW = {
    "kernel_size": list,
    "stride": list,
    "padding": str,
    "amounts": list,
    "dilation": list,
    "padding_mode": str,
    "bias": bool,
}
_SIZES = {"group_channels": int, "out_channels": int, "groups": int}


def _built(rank: int | None = None, **options: Any) -> nn.Module:
    """Build a convolution from the options in a file.

    Raises:
        ValueError: no convolution has such options.
    """
    amounts, padding = options.pop("amounts"), options.pop("padding")
    options["in_channels"] = options["groups"] * options.pop("group_channels")
    windows = (options["kernel_size"], options["stride"], amounts, options["dilation"])
    if any(len(window) != 2 for window in windows) or min(*windows[0], *windows[1], *windows[3]) < 1:
        raise ValueError(f"a part 'conv2d' has the windows {windows}")
    options["padding"] = tuple(amounts) if padding == "explicit" else padding
    for name in ("kernel_size", "stride", "dilation"):
        options[name] = tuple(options[name])
    return nn.Conv2d(**options) if rank is None else LowRankConv2d(rank, **options)


class Conv2dSite(Site):
    """An `nn.Conv2d`: each patch of its input is a row of the matrix (out, in / groups * height * width)."""

    name: ClassVar[str] = "conv2d"
    positional: ClassVar[bool] = True
    layer: nn.Conv2d

    def __init__(self, layer: nn.Conv2d) -> None:
        self.layer, self.groups = layer, layer.groups
        self.out_features, self.in_features = layer.out_channels, layer.weight[0].numel()

    @classmethod
    def kind(cls) -> type[nn.Conv2d]:
        """Return `nn.Conv2d`."""
        return nn.Conv2d

    @classmethod
    def smallest(cls) -> nn.Conv2d:
        """Make a layer whose weight is a single number."""
        return nn.Conv2d(1, 1, 1)

    @classmethod
    def examples(cls) -> Sequence[tuple[nn.Conv2d, Tensor]]:
        """Make layers with strides, dilation, groups, and each kind of padding."""
        image = torch.randn(2, 4, 9, 7)
        return (
            (nn.Conv2d(4, 6, 3), image),
            (nn.Conv2d(4, 50, (2, 3), stride=(2, 1), padding=(1, 2), bias=False), image),
            (nn.Conv2d(4, 6, 3, dilation=2, groups=2, padding="same", padding_mode="reflect"), image),
            (nn.Conv2d(4, 8, 3, groups=4, padding=1, padding_mode="circular"), image),
            (nn.Conv2d(4, 6, 1), image),
        )

    @classmethod
    def leaves(cls) -> Mapping[str, Leaf]:
        """Return the dense layer and the layer of two factors."""
        dense = {**_SIZES, **_WINDOW}
        pair = {"rank": int, **dense}
        return {
            "conv2d": Leaf(nn.Conv2d, dense, _built, _options),
            "low_rank_conv2d": Leaf(LowRankConv2d, pair, _built, _options),
        }

    def products(self, x: Tensor) -> Tensor:
        """Convolve without the bias."""
        weight = self.wide_weight
        return self.outputs(self._convolved(x.to(weight.dtype), weight))

    def outputs(self, y: Tensor) -> Tensor:
        """View (…, out, height, width) as (rows, out), or (groups, rows, out / groups)."""
        channels = y.transpose(0, 1) if y.ndim == 4 else y  # (out, rows, height, width)
        return self.grouped(channels.flatten(1)).mT

    def rows(self, x: Tensor) -> Tensor:
        """Unfold the input into patches: (rows, in), or (groups, rows, in)."""
        layer = self.layer
        one = torch.eye(self.in_features, dtype=x.dtype, device=x.device)
        kernels = one.unflatten(1, (-1, *layer.kernel_size)).repeat(self.groups, 1, 1, 1)
        return self.outputs(self._convolved(x, kernels))  # the layer's own convolution, so any padding works

    def reduced(self, x: Tensor, right: Tensor) -> Tensor:
        """Return (…, groups, k, height, width)."""
        kernels = right.flatten(0, -2).unflatten(1, self.weight.shape[1:])
        return self._convolved(x, kernels).unflatten(-3, (self.groups, -1))  # type: ignore[no-any-return]

    def restored(self, reduced: Tensor, left: Tensor, bias: Tensor | None) -> Tensor:
        """Return (…, out, height, width)."""
        kept = reduced[..., : left.shape[1], :, :].flatten(-4, -3)
        return F.conv2d(kept, left[:, :, None, None], bias, groups=self.groups)

    def pair(self, rank: int, bias: bool) -> LowRankConv2d:
        """Make a `LowRankConv2d`."""
        window = {name: getattr(self.layer, name) for name in _ARGUMENTS}
        return LowRankConv2d(rank, bias, self.weight.device, self.weight.dtype, **window)

    def _convolved(self, x: Tensor, kernels: Tensor) -> Tensor:
        return self.layer._conv_forward(x, kernels, None)  # type: ignore[no-any-return]
