"""Copy a model whose layers are to be replaced, and check that the copy stands on its own."""

import copy
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
import torch.utils._pytree as pytree
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from arsvd.batches import EXAMPLE_ROWS
from arsvd.calls import callables, global_forward_hooks, reached
from arsvd.files.exported import InputShape
from arsvd.modes import evaluation_mode

# By name, a layer of the model and its replacement in the copy.
Pairs = Mapping[str, tuple[nn.Module, nn.Module]]
_ROUNDINGS = 100.0
_FAILURES = (RuntimeError, TypeError, IndexError, AttributeError, KeyError)


class ExampleError(ValueError):
    """A model does not take the inputs that its copy was to be checked with."""


def copied(model: nn.Module) -> nn.Module:
    """Copy a model with its weights, its hooks and whatever else is set on its modules.

    Python does not copy functions: one that holds on to a part of the original still does so in the copy,
    which `check_copy` finds.

    Raises:
        ValueError: something in the model cannot be copied.
    """
    # weights that hooks compute (pruning, weight norm) are not leaves of autograd, and torch copies leaves
    # only; they are computed anew at the next call
    computed = [
        value
        for module in model.modules()
        for value in vars(module).values()
        if isinstance(value, Tensor) and not value.is_leaf
    ]
    memo: dict[int, Any] = {id(value): value.detach().clone() for value in computed}
    try:
        return copy.deepcopy(model, memo)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ValueError(f"{type(model).__name__} cannot be copied: {error}") from error


def own_example(model: nn.Module) -> Tensor | None:
    """Make inputs of zeros for a model that knows its own input shape; None for any other model."""
    for module in model.modules():
        if isinstance(module, InputShape):
            made = module.example(EXAMPLE_ROWS)
            device = next((parameter.device for parameter in model.parameters()), None)
            return None if made is None else made.to(device)
    return None


def check_copy(
    model: nn.Module,
    copied: nn.Module,
    pairs: Pairs,
    gone: Iterable[nn.Module],
    example: Tensor | None,
    call: Callable[[Tensor], Any] | None = None,
) -> None:
    """Check that a copy uses its own layers and none of the model's, while both still compute the same.

    With inputs, both are run. Without, anything that could hold on to the model is refused.

    Args:
        model: original model.
        copied: copy of the model, with layers replaced.
        pairs: replaced layers with their replacements, which compute the same while this check runs.
        gone: layers that were replaced in the copy.
        example: inputs to run both with; None where there are none.
        call: function that runs the copy on inputs; by default the copy is called.

    Raises:
        ExampleError: the model does not take the inputs.
        ValueError: the copy depends on the model, skips layers that run in the model, fails, or gives other
            outputs; or it may do so, and there are no inputs to find out with.
    """
    kind = type(model).__name__
    if example is None:
        if (doubt := doubts(model, copied, gone)) is not None:
            raise ValueError(
                f"{doubt}, so a copy of {kind} may go on without its new layers. "
                f"Make it a method of the module, or give calibration or example inputs to see it by"
            )
        return
    layers, new = ({name: pair[place] for name, pair in pairs.items()} for place in (0, 1))
    reads = _Reads(_storages(model) - _storages(copied))
    with torch.no_grad(), evaluation_mode(model), evaluation_mode(copied):
        ran, wanted = _run_model(model, layers, example)
        try:
            with reads:
                ran_copy, got = _watched(call or copied, new, example)
        except _FAILURES as error:
            raise ValueError(
                f"a copy of {kind} with its layers replaced fails where the model runs: {error!r}"
            ) from error
        if reads.found:
            raise ValueError(
                f"a copy of {kind} goes on using {_names(model, reads.found)} of the original"
                f"{_blame(model, copied, gone)}. Make it a method of the module, so that it is copied with it"
            )
        # a chain that is walked by hand does not call its layers
        if call is None and (idle := sorted(ran - ran_copy)):
            raise ValueError(
                f"layers {idle} run in {kind}, but what replaces them in a copy does not"
                f"{_blame(model, copied, gone)}. Refer to them by their names in the module tree alone"
            )
        # a model that draws random numbers, or counts its calls, differs from itself as well
        if not _alike(got, wanted) and _alike(_watched(model, layers, example)[1], wanted):
            raise ValueError(
                f"a copy of {kind} with its layers replaced gives other outputs, although the layers compute "
                f"the same: its code or a hook depends on more than their calls"
            )


def _run_model(model: nn.Module, layers: Mapping[str, nn.Module], example: Tensor) -> tuple[set[str], Any]:
    """Call a model and return which of its layers ran, and its outputs; it must use at least one of them."""
    try:
        with _Reads(set().union(*map(_storages, layers.values()))) as used:
            ran, outputs = _watched(model, layers, example)
    except _FAILURES as error:
        raise ExampleError(
            f"the model does not take inputs of shape {tuple(example.shape)} and {example.dtype}: {error}"
        ) from error
    if layers and not (ran or used.found):  # code that reads a layer's weight uses it as well
        raise ValueError(
            f"{type(model).__name__} uses none of its layers {list(layers)} when it is called, so there is "
            f"nothing to compress in what it does"
        )
    return ran, outputs


def doubts(model: nn.Module, copied: nn.Module, gone: Iterable[nn.Module]) -> str | None:
    """Say what may keep a copy from using its new layers; None where there is nothing.

    Args:
        model: original model.
        copied: copy of the model, with layers replaced.
        gone: layers that were replaced in the copy.
    """
    if hooks := global_forward_hooks():
        return f"this process has hooks on all modules ({', '.join(hooks)})"
    own = {id(part) for part in _parts(copied)}
    replaced = {id(layer) for layer in gone}
    foreign = {id(part) for part in _parts(model)} - own
    for path, module in copied.named_modules():
        where = f"module {path!r}" if path else "the model"
        for name, value in callables(module):
            parts = {id(part) for part in reached(value)}
            if parts & foreign:
                return f"the {name} of {where} holds on to a part of the original"
            if parts & replaced:
                return f"the {name} of {where} holds on to a layer that is replaced"
            if name in ("forward", "_call_impl") and not parts & own:
                return f"the {name} that is set on {where} is no method of it"
    return None


def _blame(model: nn.Module, copied: nn.Module, gone: Iterable[nn.Module]) -> str:
    doubt = doubts(model, copied, gone)
    return "" if doubt is None else f": {doubt}"


def _parts(model: nn.Module) -> Iterator[nn.Module | Tensor]:
    return itertools.chain(model.modules(), model.parameters(), model.buffers())


def _storages(model: nn.Module) -> set[int]:
    tensors = itertools.chain(model.parameters(), model.buffers())
    return {place for tensor in tensors if (place := _place(tensor))}


def _place(tensor: Tensor) -> int:
    try:
        return tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):  # tensors without storage, such as sparse ones
        return 0


def _names(model: nn.Module, places: set[int]) -> str:
    named = itertools.chain(model.named_parameters(), model.named_buffers())
    return ", ".join(name for name, tensor in named if _place(tensor) in places)


class _Reads(TorchDispatchMode):
    """Records which of the given storages are read by the operations that run in this context."""

    supports_higher_order_operators = True

    def __init__(self, places: set[int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._places = places
        self.found: set[int] = set()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else torch._dynamo is imported, which takes a second

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for value in pytree.tree_leaves((args, kwargs)):
            if isinstance(value, Tensor) and (place := _place(value)) in self._places:
                self.found.add(place)
        return func(*args, **(kwargs or {}))


def _watched(
    call: Callable[[Tensor], Any], layers: Mapping[str, nn.Module], x: Tensor
) -> tuple[set[str], Any]:
    """Call a model and return which of its layers ran, and its outputs."""
    ran: set[str] = set()

    def watch(name: str) -> Callable[..., None]:
        return lambda *_: ran.add(name)

    handles = [layer.register_forward_pre_hook(watch(name)) for name, layer in layers.items()]
    try:
        return ran, call(x.clone())
    finally:
        for handle in handles:
            handle.remove()


def _alike(got: Any, wanted: Any) -> bool:
    ours, theirs = (
        [leaf.clone() for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, Tensor)]
        for outputs in (got, wanted)
    )
    return len(ours) == len(theirs) and all(map(_close, ours, theirs))


def _close(got: Tensor, wanted: Tensor) -> bool:
    if got.shape != wanted.shape or got.dtype != wanted.dtype:
        return False
    if not got.is_floating_point():
        return torch.equal(got, wanted)
    tolerance = _ROUNDINGS * torch.finfo(wanted.dtype).eps
    scale = float(wanted.abs().nan_to_num(posinf=0.0).max()) if wanted.numel() else 0.0
    return torch.allclose(got, wanted, rtol=tolerance, atol=tolerance * scale, equal_nan=True)
