"""Open the regions of an exported program: sub-graphs that run in another mode, or under a condition.

What ran inside `torch.no_grad()`, `torch.autocast` or `torch.cond` is exported as a call of a higher-order
operation on a sub-graph, which takes the parameters of its layers as arguments. Where such a call does the
same as its sub-graph, its operations move out; an autocast or a condition becomes a module that holds its
sub-graphs, and these the parameters. Other regions stay closed, and are named.
"""

import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from arsvd.files.exported.refusal import RefusedError

CLOSED_REGIONS = "closed_regions"
# regions that do the same as their sub-graph in evaluation: the position of the sub-graph among the
# arguments, and that of its own first argument
_SAME = {
    "wrap_with_set_grad_enabled": (1, 2),
    "wrap": (0, 1),
    "wrap_activation_checkpoint": (0, 1),
    "tag_activation_checkpoint": (0, 1),
    "invoke_subgraph": (0, 2),
}
_CLOSED = ("map_impl", "scan", "while_loop", "associative_scan")
REGIONS = {*_SAME, "wrap_with_autocast", "cond", *_CLOSED}

_EARLIER = re.compile(
    r"(?:(?:autocast|cond)_*\.(?:body|when_true|when_false)\.)*"
)  # of a program that was read before


@dataclass(frozen=True)
class ClosedRegion:
    """A region of a program whose layers cannot be seen and therefore stay dense.

    Attributes:
        name: name of the call in the program's graph.
        kind: name of the higher-order operation in torch.
        params: number of elements of the parameters that the region uses.
    """

    name: str
    kind: str
    params: int


class Autocast(nn.Module):
    """Runs a part of a model under `torch.autocast`.

    Args:
        body: part of the model to run.
        settings: device type, dtype, a flag that enables autocast, and a flag that caches casts.
    """

    def __init__(self, body: nn.Module, settings: tuple[Any, ...]) -> None:
        super().__init__()
        self.body, self.settings = body, settings

    def forward(self, *inputs: Any) -> Any:
        """Return what the part returns for its inputs."""
        device, dtype, enabled, cache = self.settings
        with torch.autocast(device, dtype, enabled, cache):
            return self.body(*inputs)


class Condition(nn.Module):
    """Runs one of two parts of a model.

    Args:
        when_true: part that runs where the predicate holds.
        when_false: part that runs where the predicate does not hold.
    """

    def __init__(self, when_true: nn.Module, when_false: nn.Module) -> None:
        super().__init__()
        self.when_true, self.when_false = when_true, when_false

    def forward(self, predicate: Any, *inputs: Any) -> Any:
        """Return what the chosen part returns for its inputs."""
        if torch.compiler.is_compiling():  # torch.export too
            return torch.cond(predicate, self.when_true, self.when_false, inputs)
        return self.when_true(*inputs) if bool(predicate) else self.when_false(*inputs)


def open_regions(traced: fx.GraphModule) -> tuple[list[fx.GraphModule], tuple[ClosedRegion, ...]]:
    """Make the layers inside a program's regions visible, in place.

    Args:
        traced: module of a program. Parameters are `get_attr` nodes of its graph.

    Returns:
        The module and those of its sub-graphs that are now its sub-modules, each with the parameters that it
        uses; and the regions that stayed closed.
    """
    opened: list[fx.GraphModule] = [traced]
    closed: list[ClosedRegion] = []
    while (call := _next(traced, lambda kind: kind in _SAME)) is not None:
        _inline(traced, call)
    for call in [node for node in traced.graph.nodes if _kind(node) in REGIONS]:
        kind, arguments = _kind(call), list(call.args)
        if kind == "wrap_with_autocast":
            parts = [_graph_module(traced, arguments[4])]
            region: nn.Module = Autocast(parts[0], tuple(arguments[:4]))
            first, inputs = [], arguments[5:]
        elif kind == "cond":
            parts = [_graph_module(traced, branch) for branch in arguments[1:3]]
            region = Condition(*parts)
            first, inputs = arguments[:1], list(arguments[3])
        else:
            closed.append(ClosedRegion(call.name, kind, _params(traced, call)))
            continue
        kept = _localise(traced, inputs, parts)
        with traced.graph.inserting_before(call):
            new = traced.graph.call_module("", (*first, *kept))
        call.replace_all_uses_with(new)
        traced.graph.erase_node(call)
        _drop_unused(traced)
        new.target = unused(traced, kind.removeprefix("wrap_with_"))
        traced.add_module(new.target, region)
        for part in parts:
            inner, shut = open_regions(part)
            opened += inner
            closed += shut
    return opened, tuple(closed)


def unused(module: nn.Module, name: str) -> str:
    """Return a name that the module does not have: `name`, with underscores appended where needed."""
    while hasattr(module, name):
        name += "_"
    return name


def _kind(node: fx.Node) -> str:
    is_region = node.op == "call_function" and isinstance(node.target, torch._ops.HigherOrderOperator)
    return node.target.name() if is_region else ""  # type: ignore[union-attr]


def _next(traced: fx.GraphModule, wanted: Callable[[str], bool]) -> fx.Node | None:
    return next((node for node in traced.graph.nodes if wanted(_kind(node))), None)


def _graph_module(traced: fx.GraphModule, node: Any) -> fx.GraphModule:
    found = traced.get_submodule(str(node.target))
    if not isinstance(found, fx.GraphModule):
        raise RefusedError(f"holds a region {node} without a graph")
    return found


def _inline(traced: fx.GraphModule, call: fx.Node) -> None:
    place, first = _SAME[_kind(call)]
    body = _graph_module(traced, call.args[place])
    values: dict[fx.Node, Any] = dict(zip(_inputs(body), call.args[first:], strict=True))
    with traced.graph.inserting_before(call):
        for node in body.graph.nodes:
            if node.op == "get_attr":  # a region within the region
                name = unused(traced, str(node.target).replace(".", "_"))
                setattr(traced, name, _attribute(body, str(node.target)))
                values[node] = traced.graph.get_attr(name)
                values[node].meta = dict(node.meta)
            elif node.op == "output":
                _replace(call, fx.node.map_arg(node.args[0], lambda n: values[n]))
            elif node.op != "placeholder":
                values[node] = traced.graph.node_copy(node, lambda n: values[n])
    traced.graph.erase_node(call)


def _replace(call: fx.Node, results: Any) -> None:
    if isinstance(results, fx.Node):
        call.replace_all_uses_with(results)
        return
    for user in list(call.users):
        if user.target is not operator.getitem:
            raise RefusedError(f"uses the results of the region {call} in an unknown way")
        value = results[user.args[1]]
        if isinstance(value, fx.Node):
            user.replace_all_uses_with(value)
        call.graph.erase_node(user)


def _inputs(body: fx.GraphModule) -> list[fx.Node]:
    return [node for node in body.graph.nodes if node.op == "placeholder"]


def _attribute(module: nn.Module, path: str) -> Any:
    owner, _, name = path.rpartition(".")
    return getattr(module.get_submodule(owner), name)


def _localise(traced: fx.GraphModule, inputs: list[Any], parts: Iterable[fx.GraphModule]) -> tuple[Any, ...]:
    """Give the sub-graphs the parameters that they take as arguments; returns the other arguments."""
    own = [isinstance(value, fx.Node) and parameter(traced, value) is not None for value in inputs]
    for part in parts:
        for entry, value, is_own in zip(_inputs(part), inputs, own, strict=True):
            if is_own:
                _own_parameter(part, entry, str(value.target), parameter(traced, value))
    return tuple(value for value, is_own in zip(inputs, own, strict=True) if not is_own)


def _own_parameter(part: fx.GraphModule, entry: fx.Node, path: str, value: nn.Parameter | None) -> None:
    owner: nn.Module = part
    *steps, name = _EARLIER.sub("", path).split(".")
    for index, step in enumerate(steps):
        while step in dir(nn.Module) or isinstance(getattr(owner, step, None), fx.GraphModule):
            step += "_"
        steps[index] = step
        if step not in owner._modules:
            owner.add_module(step, nn.Module())
        owner = owner.get_submodule(step)
    owner.register_parameter(name, value)
    with part.graph.inserting_before(entry):
        entry.replace_all_uses_with(part.graph.get_attr(".".join([*steps, name])))
    part.graph.erase_node(entry)


def parameter(traced: fx.GraphModule, node: fx.Node) -> nn.Parameter | None:
    """Return the parameter that a node of a module's graph stands for, or None."""
    if node.op != "get_attr":
        return None
    owner, _, name = str(node.target).rpartition(".")
    return traced.get_submodule(owner)._parameters.get(name)


def _params(traced: fx.GraphModule, call: fx.Node) -> int:
    used = {id(p): p for node in call.all_input_nodes if (p := parameter(traced, node)) is not None}
    return sum(p.numel() for p in used.values())


def _drop_unused(traced: fx.GraphModule) -> None:
    """Remove what the graph no longer uses, so that its names are free."""
    for node in reversed(list(traced.graph.nodes)):
        if node.op == "get_attr" and not node.users:
            traced.graph.erase_node(node)
    used = {str(node.target).partition(".")[0] for node in traced.graph.nodes}
    for name in set(traced._modules) - used:
        delattr(traced, name)
