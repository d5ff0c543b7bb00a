"""Give an exported program its layers back.

In an exported program, a linear layer is a call of `aten.linear` on two parameters (after decomposition, of
`aten.addmm` or `aten.mm` on a transposed parameter), and a convolution is a call of `aten.conv2d`
(`aten.convolution`). Here each of them becomes a call of an `nn.Linear` or `nn.Conv2d` that holds these same
parameters under the path that they had, so that spectra and compression see an ordinary module.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.utils._pytree as pytree
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from arsvd.files.exported.refusal import RefusedError
from arsvd.files.exported.regions import CLOSED_REGIONS, ClosedRegion, open_regions, parameter, unused

_ATEN = torch.ops.aten
_CONVOLUTIONS = (_ATEN.conv2d.default, _ATEN.conv2d.padding, _ATEN.convolution.default)
_PRODUCTS = (_ATEN.mm.default, _ATEN.matmul.default)
# position of the argument that says whether each operation was exported in training mode
_TRAINING_FLAGS = {_ATEN.dropout.default: 2, _ATEN.batch_norm.default: 5}


class InputShape(nn.Module):
    """Passes its input on, and refuses inputs of a shape that the program was not exported for.

    Args:
        sizes: size of each dimension; None where any size is accepted.
        dtype: dtype of the input.
    """

    def __init__(self, sizes: tuple[int | None, ...], dtype: torch.dtype) -> None:
        super().__init__()
        self.sizes, self.dtype = sizes, dtype

    def forward(self, x: Tensor) -> Tensor:
        """Return x (batch, …) unchanged.

        Raises:
            ValueError: a fixed size differs, or the number of dimensions does.
        """
        if x.ndim != len(self.sizes) or any(
            fixed is not None and fixed != size for fixed, size in zip(self.sizes, x.shape, strict=True)
        ):
            wanted = ", ".join("any" if size is None else str(size) for size in self.sizes)
            raise ValueError(f"the model takes inputs of shape ({wanted}), got {tuple(x.shape)}")
        return x

    def example(self, rows: int) -> Tensor | None:
        """Make inputs of zeros (rows, …); None where more than the batch is dynamic."""
        inner = [size for size in self.sizes[1:] if size is not None]
        if len(inner) < len(self.sizes) - 1:
            return None
        return torch.zeros(rows, *inner, dtype=self.dtype)


@dataclass(frozen=True)
class _Window:
    """The settings of a convolution besides its weight."""

    stride: tuple[int, ...]
    padding: tuple[int, ...] | str
    dilation: tuple[int, ...]
    groups: int


@dataclass(frozen=True)
class _Call:
    """One operation of a graph that can become a layer with its weight and bias."""

    owner: fx.GraphModule  # module of the graph
    node: fx.Node
    place: int  # position of x among the arguments; x itself may be replaced in the meantime
    weight: fx.Node  # the parameter, or its transpose
    bias: fx.Node | None
    window: _Window | None = None  # settings of a convolution


def with_layers(program: ExportedProgram) -> fx.GraphModule:
    """Turn an exported program into a module with `nn.Linear` and `nn.Conv2d` layers.

    A weight used by several operations of one kind becomes one layer that is called several times. A weight
    that other operations use as well (an embedding that is tied to the output) stays as it is, and so dense.

    Args:
        program: program that takes one tensor with a dynamic batch and returns one tensor.

    Returns:
        The module, in evaluation mode. It gives the program's logits, at other batch sizes as well.

    Raises:
        RefusedError: the program has another interface or a fixed batch, is in training mode, or has no such
            operation. The message continues a sentence that begins with the program's name.
    """
    if program.call_spec.in_spec != pytree.tree_structure(((0,), {})) or (
        program.call_spec.out_spec != pytree.tree_structure(0)
    ):
        raise RefusedError("holds a program that does not map one tensor to one tensor, forward(x) -> logits")
    traced = program.module()
    graph = traced.graph
    (entry,) = (node for node in graph.nodes if node.op == "placeholder")
    shape = _input_shape(entry)
    for node in list(graph.nodes):
        if node.op == "call_module" and not node.users:  # torch's own guards: InputShape replaces them
            graph.erase_node(node)
    opened, closed = open_regions(traced)
    for module in opened:
        _refuse_training(module.graph)
    layers = _add_layers(opened)
    if not layers:
        raise RefusedError("holds a program without any linear layer or convolution, nothing to factorise")
    check = unused(traced, "input_shape")
    traced.add_module(check, shape)
    with graph.inserting_after(entry):
        checked = graph.call_module(check, (entry,))
    entry.replace_all_uses_with(checked, lambda user: user is not checked)
    _make_plain(opened)
    found = fx.GraphModule(traced, graph, "Exported").eval()
    found.meta[CLOSED_REGIONS] = closed  # fx keeps this in copies
    return found


def closed_regions(model: nn.Module) -> tuple[ClosedRegion, ...]:
    """Return the regions of a model, read from a `.pt2` file, whose layers cannot be seen.

    Args:
        model: any module; one of another origin has no such regions.
    """
    found: tuple[ClosedRegion, ...] = getattr(model, "meta", {}).get(CLOSED_REGIONS, ())
    return found


def _input_shape(entry: fx.Node) -> InputShape:
    value = entry.meta["val"]
    if not isinstance(value, Tensor) or value.ndim == 0:
        raise RefusedError("holds a program whose input is not a tensor with rows")
    sizes = tuple(size if isinstance(size, int) else None for size in value.shape)
    if sizes[0] is not None:
        raise RefusedError(
            f"was exported for batches of exactly {sizes[0]}; export it with a dynamic batch: "
            f"torch.export.export(model, (x,), dynamic_shapes=({{0: torch.export.Dim('batch')}},)), "
            f"x of 2 rows or more"
        )
    return InputShape(sizes, value.dtype)


def _refuse_training(graph: fx.Graph) -> None:
    for node in graph.nodes:
        place = _TRAINING_FLAGS.get(node.target)
        if place is not None and len(node.args) > place and node.args[place] is True:
            raise RefusedError("was exported in training mode; call model.eval() before torch.export.export")


def _add_layers(modules: list[fx.GraphModule]) -> list[nn.Module]:
    """Replace every operation that can be a layer, in place; return the layers."""
    owned = [(m, n, p) for m in modules for n in m.graph.nodes if (p := parameter(m, n)) is not None]
    parameters = {node: value for _, node, value in owned}
    calls = [
        call for m in modules for node in m.graph.nodes if (call := _match(m, node, parameters)) is not None
    ]
    groups: dict[int, list[_Call]] = {}
    for call in calls:
        groups.setdefault(id(parameters[_root(call.weight)]), []).append(call)
    layers: list[nn.Module] = []
    for group in groups.values():
        weight, bias = parameters[_root(group[0].weight)], group[0].bias
        bias_parameter = None if bias is None else parameters[bias]
        if not _exclusive(group, weight, bias_parameter, parameters):
            continue
        layer = _layer(weight, bias_parameter is not None, group[0].window)
        layer._parameters |= {"weight": weight, "bias": bias_parameter}
        paths: dict[fx.GraphModule, str] = {}
        for call in group:
            graph = call.owner.graph
            if call.owner not in paths:
                target = str(_root(call.weight).target)
                paths[call.owner] = _register(call.owner, target, layer)
            with graph.inserting_before(call.node):
                new = graph.call_module(paths[call.owner], (call.node.args[call.place],))
            call.node.replace_all_uses_with(new)
            graph.erase_node(call.node)
        layers.append(layer)
    for module in modules:
        for node in reversed(list(module.graph.nodes)):
            if not node.users and (node.op == "get_attr" or _is_transpose(node)):
                module.graph.erase_node(node)
    return layers


def _layer(weight: nn.Parameter, bias: bool, window: _Window | None) -> nn.Module:
    """Make the layer for an operation; its numbers are not set."""
    if window is None:
        return nn.Linear(weight.shape[1], weight.shape[0], bias, device="meta")
    channels, size = (weight.shape[1] * window.groups, weight.shape[0]), tuple(weight.shape[2:])
    return nn.Conv2d(*channels, size, **vars(window), bias=bias, device="meta")  # type: ignore[arg-type]


def _match(owner: fx.GraphModule, node: fx.Node, parameters: dict[fx.Node, nn.Parameter]) -> _Call | None:
    if node.op != "call_function" or node.kwargs:
        return None
    if node.target in _CONVOLUTIONS:
        return _match_convolution(owner, node, parameters)
    arguments: tuple[Any, ...] = node.args
    if node.target is _ATEN.linear.default:
        x, weight, bias = (*arguments, None)[:3]
        plain = True
    elif node.target is _ATEN.addmm.default and len(arguments) == 3:
        bias, x, weight = arguments
        plain = False
    elif node.target in _PRODUCTS:
        (x, weight), bias, plain = arguments, None, False
    else:
        return None
    if plain == _is_transpose(weight) or _root(weight) not in parameters or x is weight:
        return None
    if parameters[_root(weight)].ndim != 2:
        return None
    if bias is not None and (bias not in parameters or parameters[bias].ndim != 1):
        return None
    return _Call(owner, node, 1 if node.target is _ATEN.addmm.default else 0, weight, bias)


def _match_convolution(
    owner: fx.GraphModule, node: fx.Node, parameters: dict[fx.Node, nn.Parameter]
) -> _Call | None:
    given: list[Any] = list(node.args)
    if node.target is _ATEN.convolution.default:
        transposed, _ = given.pop(6), given.pop(6)
        if transposed:
            return None
    given += [None, None, None, (1, 1), (0, 0), (1, 1), 1][len(given) :]
    x, weight, bias, stride, padding, dilation, groups = given
    if weight not in parameters or x is weight or parameters[weight].ndim != 4:
        return None
    if bias is not None and (bias not in parameters or parameters[bias].ndim != 1):
        return None
    stride, dilation = _pair(stride), _pair(dilation)
    padding = padding if isinstance(padding, str) else _pair(padding)
    if stride is None or padding is None or dilation is None or not isinstance(groups, int):
        return None
    return _Call(owner, node, 0, weight, bias, _Window(stride, padding, dilation, groups))


def _pair(values: Any) -> tuple[int, ...] | None:
    """Read two whole numbers, where a graph may hold one for both; None where they are not known."""
    listed = tuple(values) * (2 if len(values) == 1 else 1)
    return listed if all(isinstance(value, int) for value in listed) else None


def _is_transpose(node: fx.Node) -> bool:
    if node.op != "call_function":
        return False
    dimensions = tuple(node.args[1:])
    return (
        node.target in (_ATEN.t.default, _ATEN.numpy_T.default)
        or (node.target is _ATEN.permute.default and list(dimensions[0]) == [1, 0])  # type: ignore[arg-type]
        or (node.target is _ATEN.transpose.int and set(dimensions) in ({0, 1}, {-1, -2}))
    )


def _root(weight: fx.Node) -> fx.Node:
    return weight.all_input_nodes[0] if _is_transpose(weight) else weight


def _exclusive(
    group: list[_Call],
    weight: nn.Parameter,
    bias: nn.Parameter | None,
    parameters: dict[fx.Node, nn.Parameter],
) -> bool:
    """Tell whether one layer can hold these parameters.

    It can where all calls have the same bias and window, and nothing else uses the parameters.
    """
    if len({call.window for call in group}) > 1:
        return False
    if any((None if call.bias is None else parameters[call.bias]) is not bias for call in group):
        return False
    allowed = {call.node for call in group}
    for node, value in parameters.items():
        if value is weight:
            users = [u for user in node.users for u in (user.users if _is_transpose(user) else [user])]
        elif value is bias:
            users = list(node.users)
        else:
            continue
        if not allowed.issuperset(users):
            return False
    return True


def _register(traced: fx.GraphModule, target: str, layer: nn.Module) -> str:
    """Put a layer where its weight was ("head.weight" gives "head"), or beside it where that is taken."""
    path = target.removesuffix("weight").rstrip("._") or (
        "conv" if isinstance(layer, nn.Conv2d) else "linear"
    )
    owner, _, name = path.rpartition(".")
    parent = traced.get_submodule(owner)
    place = parent._modules.get(name)
    own = {id(parameter) for parameter in layer.parameters()}
    if place is not None and not place._modules and not place._buffers:
        free = {id(p) for p in place._parameters.values() if p is not None} <= own
    else:
        free = place is None and (id(getattr(parent, name, None)) in own or not hasattr(parent, name))
        if free:
            parent._parameters.pop(name, None)
    name = name if free else unused(parent, f"{name}_layer")
    parent._modules[name] = layer
    return f"{owner}.{name}" if owner else name


def _make_plain(modules: list[fx.GraphModule]) -> None:
    """Give the graph the signature forward(x) -> tensor, and remove traces of the exporting machine."""
    outer = modules[0].graph
    outer.set_codegen(fx.graph.CodeGen())
    (output,) = (node for node in outer.nodes if node.op == "output")
    output.args = (output.args[0][0],)
    for module in modules:
        for node in module.graph.nodes:
            node.meta = {}
    for module in modules[1:]:
        module.recompile()
