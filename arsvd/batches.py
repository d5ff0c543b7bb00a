"""Inputs of a model, a batch at a time: what counts as a batch, and what is refused."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

EXAMPLE_ROWS = 2


def calibration_batches(calibration: Tensor | Iterable[Tensor], batch_size: int) -> Iterator[Tensor]:
    """Yield calibration inputs a batch at a time.

    A list holds batches that are alike in all but their rows: tensors of other sizes could just as well be
    the several inputs of one batch. An iterator yields one batch each time, so there only the dtype and the
    number of dimensions must agree.

    Args:
        calibration: inputs (rows, …), or batches of them.
        batch_size: rows per batch where `calibration` is one tensor.

    Raises:
        ValueError: one tensor of fewer than two rows, no batches at all, something that is no batches of
            inputs, or batches that are not alike.
        TypeError: a batch is not a tensor.
    """
    if isinstance(calibration, Tensor):
        if calibration.ndim < 1 or len(calibration) < 2:
            raise ValueError(
                f"calibration needs at least 2 rows of inputs, "
                f"got a tensor of shape {tuple(calibration.shape)}"
            )
        yield from _usable(calibration).split(batch_size)
        return
    if (fault := _no_batches(calibration)) is not None:
        raise ValueError(f"calibration is one tensor of inputs or an iterable of batches: {fault}")
    first: Tensor | None = None
    for batch in calibration:
        if not isinstance(batch, Tensor):
            raise TypeError(
                f"calibration batches must be tensors of inputs, got a {type(batch).__name__}; "
                f"if a loader also gives labels, pass (inputs for inputs, _ in loader)"
            )
        if batch.ndim < 1:
            raise ValueError("calibration batches are of shape (rows, …), got a single number")
        first = batch if first is None else first
        _check_alike(first, batch, inner=isinstance(calibration, list))
        yield _usable(batch)
    if first is None:
        raise ValueError(
            "calibration holds no batches; an iterator that was walked before is empty: make it anew"
        )


def _usable(batch: Tensor) -> Tensor:
    # autograd, which the loss basis needs, does not accept tensors that were made in inference mode
    return batch.clone() if batch.is_inference() else batch


def _no_batches(calibration: object) -> str | None:
    """Say what is wrong with something that cannot be batches of inputs."""
    if isinstance(calibration, tuple):
        advice = "pass the tensor itself" if len(calibration) == 1 else "if these are batches, pass a list"
        return f"a tuple is taken for one batch of several inputs, which this release cannot feed; {advice}"
    if isinstance(calibration, dict):
        return "a dict is taken for one batch of named inputs, which this release cannot feed"
    if isinstance(calibration, np.ndarray):
        return "got a NumPy array, pass torch.from_numpy(array)"
    if isinstance(calibration, Dataset) and not isinstance(calibration, IterableDataset):
        return f"{type(calibration).__name__} gives single samples, wrap it in a torch.utils.data.DataLoader"
    if isinstance(calibration, str | bytes) or not isinstance(calibration, Iterable):
        return f"got {calibration!r:.40}, a {type(calibration).__name__}"
    return None


def _check_alike(first: Tensor, batch: Tensor, inner: bool) -> None:
    if batch.dtype == first.dtype and batch.ndim == first.ndim:
        if not inner or batch.shape[1:] == first.shape[1:]:
            return
        advice = "; batches of several sizes are taken from an iterator, pass iter(batches)"
    else:
        advice = ""
    raise ValueError(
        f"calibration batches must be alike, got shape {tuple(first.shape)} of {first.dtype} and shape "
        f"{tuple(batch.shape)} of {batch.dtype}: they are taken for several inputs of one batch, which this "
        f"release cannot feed{advice}"
    )


def check_labelled(inputs: Any, labels: Any) -> None:
    """Refuse labelled data that is not one tensor of inputs and one of labels.

    Raises:
        ValueError: one of them is something else, or the inputs have no dimension for the rows.
    """
    for what, value in (("inputs", inputs), ("labels", labels)):
        if isinstance(value, Tensor):
            continue
        hint = ": pass torch.from_numpy(array)" if isinstance(value, np.ndarray) else ""
        several = isinstance(value, tuple | list | dict) and what == "inputs"
        hint = ", which is taken for several inputs that this release cannot feed" if several else hint
        raise ValueError(f"the {what} must be one tensor, rows first, got a {type(value).__name__}{hint}")
    if inputs.ndim < 1:
        raise ValueError("the inputs must be of shape (rows, …), got a single number")


def check_logits(outputs: Any, needs: str = "accuracy is measured of") -> None:
    """Refuse outputs of a model that are not logits (rows, classes).

    Args:
        outputs: outputs of the model.
        needs: reason in the message, such as "the loss basis needs".

    Raises:
        ValueError: the outputs are of another kind or shape.
    """
    if not isinstance(outputs, Tensor) or outputs.ndim != 2:
        got = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise ValueError(f"{needs} a classifier that gives logits (rows, classes), got {got}")


@contextmanager
def feeding(batch: Tensor, what: str) -> Iterator[None]:
    """Explain an error where a model does not take a batch; other errors pass unchanged.

    Args:
        batch: input that the model is called with in this context.
        what: name of the batch in the message, such as "calibration inputs".

    Raises:
        ValueError: the model raised an error that wrong inputs cause.
    """
    try:
        yield
    except torch.OutOfMemoryError:  # a RuntimeError that says nothing about the inputs
        raise
    except (RuntimeError, TypeError, IndexError) as error:
        raise ValueError(
            f"the model does not take {what} of shape {tuple(batch.shape)} and {batch.dtype}: {error}"
        ) from error
