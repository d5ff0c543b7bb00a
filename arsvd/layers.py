"""Replace layers by others."""

from torch import nn


def replace_layer(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put `new` wherever `old` is registered in `model`, on the same parents and under the same names.

    Args:
        model: module to change in place; not `old` itself.
        old: layer to remove.
        new: layer to put in its place.

    Raises:
        ValueError: `old` is not inside `model`.
    """
    replaced = 0
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            if child is old:
                parent._modules[name] = new
                replaced += 1
    if replaced == 0:
        raise ValueError(f"the layer {old} is not a part of the model {type(model).__name__}")
