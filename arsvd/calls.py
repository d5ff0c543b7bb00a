"""What a call of a module does besides its class's `forward`: hooks, and whatever is set on the instance."""

import weakref
from collections.abc import Iterator
from functools import partial
from types import CodeType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.nn.modules import module as torch_module

if TYPE_CHECKING:
    from arsvd.sites.base import Site

# Attributes of every module: its hooks with their flags. Which of them exist depends on torch's release.
_HOOKS = tuple(name for name in vars(nn.Module()) if "hook" in name)
_CALLABLE_HOOKS = tuple(name for name in _HOOKS if name.endswith("_hooks"))
_REGISTERED = ("_parameters", "_buffers", "_modules")
_CALL = ("__call__", "_call_impl", "_wrapped_call_impl", "_slow_forward")
_SET_ON_INSTANCES = frozenset(("forward", *_CALL))
# names used by hooks that read or change the numbers of their layer, which factors would hide from them
_NUMBERS = frozenset(
    ["weight", "bias", "_parameters", "parameters", "named_parameters", "state_dict", "setattr", "__dict__"]
)


def hooks_of(module: nn.Module) -> Iterator[str]:
    """Name the hooks of a module, such as "forward hook double"."""
    for kind in _CALLABLE_HOOKS:
        for hook in getattr(module, kind).values():
            yield f"{kind.strip('_').removesuffix('s').replace('_', ' ')} {_name(hook)}"


def global_forward_hooks() -> list[str]:
    """Name the forward hooks that this process has set on all modules."""
    kinds = ("_global_forward_pre_hooks", "_global_forward_hooks")
    return [_name(hook) for kind in kinds for hook in getattr(torch_module, kind).values()]


def called_plainly(module: nn.Module) -> bool:
    """Tell whether a call of a module runs its class's `forward` and nothing that changes its outputs."""
    hooked = module._forward_hooks or module._forward_pre_hooks or global_forward_hooks()
    return not hooked and not _call_is_replaced(module)


def has_extras(module: nn.Module) -> bool:
    """Tell whether a module has hooks or a call of its own, which its class and its weights do not show."""
    return _call_is_replaced(module) or any(hooks_of(module))


def _call_is_replaced(module: nn.Module) -> bool:
    if not _SET_ON_INSTANCES.isdisjoint(vars(module)):
        return True
    kind = type(module)
    return any(getattr(kind, name) is not getattr(nn.Module, name) for name in _CALL)


def layer_input(arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Tensor:
    """Return the input that a layer was called with, by position or by keyword."""
    found: Tensor = arguments[0] if arguments else keywords["input"]
    return found


def obstacle(layer: nn.Module, site: "type[Site]") -> str | None:
    """Say what about a layer its replacement cannot take over; None where it can take over everything.

    Args:
        layer: layer to be replaced.
        site: kind of site that the layer is.
    """
    # told by its file: a patch that wraps the original copies its name and module
    kind = site.kind()
    code = getattr(kind.forward, "__code__", None)
    if code is None or code.co_filename != kind.__init__.__code__.co_filename:
        return f"nn.{kind.__name__}.forward is replaced in this process"
    further = [name for name in vars(layer) if name not in site.own_names()]
    if replaced := [name for name in further if hasattr(kind, name)]:
        return f"its {', '.join(replaced)} is set on the instance"
    if taken := [name for name in further if name in site.taken_names()]:
        return f"its attribute {', '.join(taken)} has a name that a low-rank layer uses itself"
    for hooks in _CALLABLE_HOOKS:
        for hook in getattr(layer, hooks).values():
            if not _NUMBERS.isdisjoint(_words(hook)):
                return f"its hook {_name(hook)} reads or changes its weight or bias"
    return None


def carry(site: "Site", new: nn.Module) -> None:
    """Move a layer's hooks, in order and with their flags, and its additional attributes to another layer.

    Args:
        site: site whose layer is replaced, and for which `obstacle` found nothing.
        new: layer that takes its place.
    """
    old = site.layer
    for name, value in vars(old).items():
        if name in _HOOKS:  # moved: a dictionary shared by both would be changed in both
            vars(new)[name], vars(old)[name] = value, None if value is None else type(value)()
            for hook in value.values() if isinstance(value, dict) else ():
                if isinstance(hook, torch_module._WrappedHook) and hook.with_module:
                    hook.module = weakref.ref(new)
        elif name not in site.own_names():
            vars(new)[name] = value


def callables(module: nn.Module) -> Iterator[tuple[str, object]]:
    """Yield, with their names, the hooks and functions set on a module that may run when it is called."""
    for kind in _CALLABLE_HOOKS:
        for hook in getattr(module, kind).values():
            yield f"hook {_name(hook)}", hook
    for name, value in vars(module).items():
        if name not in _HOOKS and name not in _REGISTERED:
            held = value.values() if isinstance(value, dict) else value
            listed = held if isinstance(value, dict | list | tuple) else [value]
            if any(callable(item) and not isinstance(item, type) for item in listed):
                yield name, value


def reached(start: object) -> Iterator[nn.Module | Tensor]:
    """Yield the modules and tensors that something callable holds on to.

    The search follows closures, defaults, the globals that a function names, bound objects, partial
    functions, weak references, and plain containers.

    Args:
        start: function, method, or object that can be called.
    """
    waiting: list[object] = [start]
    known: set[int] = set()
    kept: list[object] = []  # ids are valid only while their objects live
    while waiting:
        value = waiting.pop()
        if id(value) in known:
            continue
        known.add(id(value))
        kept.append(value)
        if isinstance(value, nn.Module | Tensor):
            yield value
        else:
            waiting.extend(_parts(value, value is start))


def _parts(value: Any, first: bool) -> list[object]:
    if isinstance(value, FunctionType):
        held = [cell.cell_contents for cell in value.__closure__ or () if _is_filled(cell)]
        held += [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
        if not str(value.__module__).startswith("torch."):
            words = {word for code in _codes(value.__code__) for word in code.co_names}
            held += [value.__globals__[word] for word in words if word in value.__globals__]
        return held
    if isinstance(value, MethodType):
        return [value.__self__, value.__func__]
    if isinstance(value, partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, weakref.ref):
        return [value()]
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, list | tuple | set | frozenset):
        return list(value)
    # only of an object that is a hook itself; deepcopy copied any other object with the model
    return list(vars(value).values()) if first and hasattr(value, "__dict__") else []


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - the question is whether it can be read
    except ValueError:
        return False
    return True


def _codes(code: CodeType) -> Iterator[CodeType]:
    """Yield a code object and those of the functions inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _words(hook: Any) -> set[str]:
    """Return the names and strings in the code of a hook."""
    hook = hook.hook if isinstance(hook, torch_module._WrappedHook) else hook
    while isinstance(hook, partial | MethodType):
        hook = hook.func if isinstance(hook, partial) else hook.__func__
    if not isinstance(hook, FunctionType):
        hook = vars(type(hook)).get("__call__")
    if not isinstance(hook, FunctionType):
        return set()
    codes = list(_codes(hook.__code__))
    strings = [text.strip("._") for code in codes for text in code.co_consts if isinstance(text, str)]
    return {*strings, *(word for code in codes for word in code.co_names)}


def _name(hook: Any) -> str:
    hook = hook.hook if isinstance(hook, torch_module._WrappedHook) else hook
    while isinstance(hook, partial):
        hook = hook.func
    return str(getattr(hook, "__name__", type(hook).__name__))
