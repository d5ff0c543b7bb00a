"""Settings that hold for a while: a model's evaluation mode, torch's number of threads."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
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


@contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """Let torch use a number of threads inside its operations, and afterwards as many as before.

    Args:
        number: at least 1.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
