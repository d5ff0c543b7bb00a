"""How much of a model its factorised layers are: numbers and multiplications."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from arsvd.calls import layer_input
from arsvd.modes import evaluation_mode
from arsvd.statistics.stacking import dense_chain


@dataclass(frozen=True)
class Coverage:
    """How much of a model the layers of its spectra are, as the model stands.

    Attributes:
        params: numbers stored by these layers.
        model_params: numbers stored by the whole model.
        macs: multiplications in these layers for one input row of the model, at all positions that the row
            has; None where the model could not be run.
        model_macs: multiplications in the whole model for one input row; None where it could not be run.
        skipped: the linear layers that stay dense whatever a plan says, each with the reason.
    """

    params: int
    model_params: int
    macs: float | None = None
    model_macs: float | None = None
    skipped: tuple[tuple[str, str], ...] = ()

    @property
    def params_share(self) -> float:
        """The share of the model's numbers, in [0, 1]."""
        return self.params / self.model_params if self.model_params else 0.0

    @property
    def macs_share(self) -> float | None:
        """The share of the model's multiplications, in [0, 1]; None where they were not counted."""
        if self.macs is None or not self.model_macs:
            return None
        return self.macs / self.model_macs


def counted_macs(
    model: nn.Module, layers: Mapping[str, nn.Linear], example: Tensor | None
) -> tuple[float, float] | None:
    """Count the multiplications of matrix products, convolutions and attention for one input row.

    Args:
        model: it is run once, in evaluation mode, if its structure does not tell.
        layers: name to layer.
        example: inputs (rows, …); None where there are none.

    Returns:
        Multiplications in the layers and in the whole model; None where the model could not be run.
    """
    if (chain := dense_chain(model)) is not None:
        return chain_macs(layers, chain)  # known without running it, and the models of sweeps are such
    if example is None or len(example) == 0:
        return None
    inside = 0

    def count(layer: nn.Linear, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        nonlocal inside
        inside += layer_input(arguments, keywords).numel() * layer.out_features

    handles = [layer.register_forward_pre_hook(count, with_kwargs=True) for layer in layers.values()]
    try:
        with _fused_kernels_off(model), evaluation_mode(model), torch.no_grad(), _Operations() as operations:
            model(example)
    except Exception:  # whatever a model has that the counter cannot run: its plan is as good without
        return None
    finally:
        for handle in handles:
            handle.remove()
    # not below the layers' own: an operation that the counter does not know counts as none
    return inside / len(example), max(inside, operations.flops / 2) / len(example)


def chain_macs(layers: Mapping[str, nn.Linear], chain: Mapping[str, nn.Linear]) -> tuple[float, float]:
    """Count as `counted_macs` does for a model that `arsvd.statistics.stacking.dense_chain` knows."""
    own, overall = (sum(layer.weight.numel() for layer in each.values()) for each in (layers, chain))
    return float(own), float(overall)


class _Operations(TorchDispatchMode):
    """Sums what the operations meanwhile cost, by torch's own table.

    torch's `FlopCounterMode` does it too, and imports torch._dynamo for it, which takes a second.

    Attributes:
        flops: two for each multiplication.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        from torch.utils.flop_counter import flop_registry, shape_wrapper  # imports triton

        own = {packet: shape_wrapper(formula) for packet, formula in _VECTOR_PRODUCTS.items()}
        self._formulas: dict[Any, Callable[..., int]] = {**flop_registry, **own}
        self.flops = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        formula = self._formulas.get(func._overloadpacket)
        if formula is None:
            with self:
                result = func.decompose(*args, **kwargs)
            return func(*args, **kwargs) if result is NotImplemented else result
        result = func(*args, **kwargs)
        self.flops += formula(*args, **kwargs, out_val=result)
        return result


@contextmanager
def _fused_kernels_off(model: nn.Module) -> Iterator[None]:
    """Have attention and recurrent layers computed in parts that are counted, which fused kernels are not."""
    fast = torch.backends.mha.get_fastpath_enabled()
    with ExitStack() as stack:
        stack.callback(torch.backends.mha.set_fastpath_enabled, fast)
        torch.backends.mha.set_fastpath_enabled(False)
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        if any(isinstance(module, nn.RNNBase) for module in model.modules()):
            stack.enter_context(torch.backends.mkldnn.flags(enabled=False))
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        yield


def _times_vector(matrix: Sequence[int], *_: Any, **__: Any) -> int:
    return 2 * matrix[0] * matrix[1]


def _added_times_vector(_: Any, matrix: Sequence[int], *__: Any, **___: Any) -> int:
    return _times_vector(matrix)


# products that torch's own table lacks
_VECTOR_PRODUCTS = {torch.ops.aten.mv: _times_vector, torch.ops.aten.addmv: _added_times_vector}
