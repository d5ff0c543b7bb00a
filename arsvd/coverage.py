"""How much of a model its sites make up: numbers and multiplications."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from arsvd.modes import evaluation_mode
from arsvd.sites.base import Site
from arsvd.statistics.stacking import dense_chain


@dataclass(frozen=True)
class Coverage:
    """How much of a model its sites make up, with the model as it is.

    Attributes:
        params: count of numbers stored by the sites.
        model_params: count of numbers stored by the whole model.
        macs: multiplications in the sites for one input row of the model, at all positions of the row; None
            where the model could not be run.
        model_macs: multiplications in the whole model for one input row; None where it could not be run.
        skipped: layers that stay dense whatever a plan says, each with the reason.
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


@dataclass(frozen=True)
class Counted:
    """Multiplications for one input row.

    Attributes:
        own: multiplications in the sites.
        overall: multiplications in the whole model.
        positions: number of rows that each site's matrix multiplies for one input row, by the site's name.
    """

    own: float
    overall: float
    positions: Mapping[str, float] = field(default_factory=dict)


def counted_macs(model: nn.Module, sites: Mapping[str, Site], example: Tensor | None) -> Counted | None:
    """Count the multiplications of matrix products, convolutions and attention for one input row.

    Args:
        model: model to count; it is run once, in evaluation mode, unless its structure gives the answer.
        sites: sites of the model, by name.
        example: inputs (rows, …); None where there are none.

    Returns:
        The multiplications; None where the model could not be run.
    """
    if (chain := dense_chain(model)) is not None:
        # known without running the model, and the models of sweeps are of this kind
        return chain_macs({name: site.layer for name, site in sites.items()}, chain)
    if example is None or len(example) == 0:
        return None
    outputs = dict.fromkeys(sites, 0)

    def watch(name: str, site: Site) -> torch.utils.hooks.RemovableHandle:
        def count(_: nn.Module, __: object, y: Tensor) -> None:
            outputs[name] += y.numel()

        return site.layer.register_forward_hook(count, prepend=True)

    handles = [watch(name, site) for name, site in sites.items()]
    try:
        with _fused_kernels_off(model), evaluation_mode(model), torch.no_grad(), _Operations() as operations:
            model(example)
    except Exception:  # anything that the counter cannot run: the plan is as good without the count
        return None
    finally:
        for handle in handles:
            handle.remove()
    rows = len(example)
    inside = sum(outputs[name] * site.in_features for name, site in sites.items())
    positions = {name: outputs[name] / site.out_features / rows for name, site in sites.items()}
    # at least the sites' own: an operation that the counter does not know counts as 0
    return Counted(inside / rows, max(inside, operations.flops / 2) / rows, positions)


def chain_macs(layers: Mapping[str, nn.Module], chain: Mapping[str, nn.Linear]) -> Counted:
    """Count as `counted_macs` does, for a model that `arsvd.statistics.stacking.dense_chain` recognises."""
    own = sum(chain[name].weight.numel() for name in layers)
    return Counted(float(own), float(sum(layer.weight.numel() for layer in chain.values())))


class _Operations(TorchDispatchMode):
    """Sums the cost of the operations that run in this context, by torch's own table.

    torch's `FlopCounterMode` does so too, but imports torch._dynamo for it, which takes a second.

    Attributes:
        flops: floating-point operations, two for each multiplication.
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
    """Have attention and recurrent layers computed in parts: these are counted, fused kernels are not."""
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
