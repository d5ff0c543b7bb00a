"""Temporary settings: evaluation mode, wrappers taken off, torch's number of threads."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import MethodType
from typing import Any

import torch
from torch import nn

from arsvd.calls import hooks_of

_COMPILED = "_torchdynamo_orig_callable"  # where torch.compile keeps the function that it was given


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode, and restore the mode of every part afterwards, also after an error.

    Args:
        model: any module; parts of it may be in another mode than the whole, as frozen batch norms are.
    """
    training = model.training
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        model.train(training)  # for modules whose own `train` does more than set the flag
        for module, mode in modes:
            module.training = mode


@contextmanager
def unwrapped(model: nn.Module) -> Iterator[nn.Module]:
    """Yield a model without what `torch.compile` and data parallelism wrap around it and its parts.

    In this context its parts have their plain names, and it runs uncompiled, so that hooks are seen.

    Args:
        model: any module; afterwards it is as before, except for parts that were replaced in the meantime.

    Raises:
        ValueError: a wrapper has hooks of its own, or shards its weights.
    """
    changed: list[tuple[dict[str, Any], str, Any, Any]] = []

    def change(owner: dict[str, Any], key: str, new: Any) -> None:
        changed.append((owner, key, owner[key], new))
        owner[key] = new

    plain = inner(model)
    compiled = plain is not model
    waiting, known = [plain], {id(plain)}
    try:
        while waiting:
            module = waiting.pop()
            if isinstance(module, torch.jit.ScriptModule):
                continue
            for name, child in module._modules.items():
                if child is None:
                    continue
                bare = inner(child)
                if bare is not child:
                    change(module._modules, name, bare)
                if id(bare) not in known:
                    known.add(id(bare))
                    waiting.append(bare)
            own = vars(module)
            if own.get("_compiled_call_impl") is not None:
                change(own, "_compiled_call_impl", None)
            if (original := getattr(own.get("forward"), _COMPILED, None)) is not None:
                change(own, "forward", original)
                while not isinstance(original, MethodType) and hasattr(original, "__wrapped__"):
                    original = original.__wrapped__  # torch wraps the methods of its own classes once more
                if isinstance(original, MethodType) and original.__func__ is type(module).forward:
                    del own["forward"]
            compiled = compiled or any(callable(v) and hasattr(v, _COMPILED) for v in own.values())
            compiled = compiled or hasattr(type(module).forward, _COMPILED)
        with ExitStack() as stack:
            if compiled or changed:
                stack.enter_context(torch.compiler.set_stance("force_eager"))
            yield plain
    finally:
        for owner, key, old, new in reversed(changed):
            if owner.get(key, new) is new:  # a part that was replaced in the meantime stays replaced
                owner[key] = old


def inner(module: nn.Module) -> nn.Module:
    """Return the module inside a compiled or data-parallel module; any other module itself.

    Raises:
        ValueError: the wrapper has hooks of its own, or shards its weights.
    """
    while (attribute := _wrapped(module)) is not None:
        kind = type(module).__name__
        if hooks := list(hooks_of(module)):
            raise ValueError(
                f"{kind} has hooks of its own ({', '.join(hooks)}), and it is taken off here: "
                f"register them on the model inside"
            )
        wrapped = module._modules[attribute]
        if wrapped is None:
            raise ValueError(f"{kind} wraps no module")
        module = wrapped
    return module


def _wrapped(module: nn.Module) -> str | None:
    """Return the name of the attribute that holds a wrapper's model; None where it is no wrapper."""
    if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return "module"
    # these take seconds to import; where they were not imported, the model holds none of them
    dynamo = sys.modules.get("torch._dynamo.eval_frame")
    if dynamo is not None and isinstance(module, dynamo.OptimizedModule):
        return "_orig_mod"
    sharding = sys.modules.get("torch.distributed.fsdp")
    if sharding is not None and isinstance(module, sharding.FullyShardedDataParallel):
        raise ValueError("FullyShardedDataParallel keeps a part of each weight: gather the model first")
    return None


@contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """Let torch use a number of threads inside its operations, and restore the previous number afterwards.

    Args:
        number: number of threads, at least 1.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
