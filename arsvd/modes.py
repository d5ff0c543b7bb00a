"""Run a model in evaluation mode and leave it as it was."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode, and every part of it back into its own mode, also after an error.

    Args:
        model: any module; parts of it may be in another mode than the whole, as frozen batch norms are.
    """
    training = model.training
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        model.train(training)  # for modules whose own `train` does more than to set the flag
        for module, mode in modes:
            module.training = mode
