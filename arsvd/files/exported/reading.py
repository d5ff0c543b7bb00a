"""Read a `.pt2` file as a module that can be compressed."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from arsvd.files.exported.archive import checked_archive
from arsvd.files.exported.graph import with_layers
from arsvd.files.exported.refusal import RefusedError

_MOST_REASON = 300  # characters; torch puts the whole node and a traceback there

_LOGGERS = (
    "torch.export",
    "torch.export.pt2_archive._package",
    "torch._export.serde.serialize",
    "torch._subclasses.fake_tensor",
)


def read_exported(path: str | os.PathLike[str]) -> nn.Module:
    """Read a program that `torch.export.save` wrote.

    Args:
        path: file whose program takes one tensor (batch, …) with a dynamic batch and returns one tensor.

    Returns:
        A graph module in evaluation mode in which linear operations are `nn.Linear` layers again.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, needs pickle, or its program cannot be compressed.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path}")
    archive = checked_archive(path)
    with _torch_logs() as logged:
        try:
            return with_layers(torch.export.load(archive))
        except RefusedError as error:
            raise ValueError(f"{path} {error}") from error
        except Exception as error:  # torch raises whatever its readers of the parts raise
            reason = _reason(logged[-1] if logged else error)
            raise ValueError(f"{path} is not a program that this torch can read: {reason}") from error


def _reason(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"[:_MOST_REASON]


@contextmanager
def _torch_logs() -> Iterator[list[BaseException]]:
    """Keep torch's reader from logging; yield the errors that it logs instead of raising them."""
    errors: list[BaseException] = []

    def keep(record: logging.LogRecord) -> bool:
        if record.exc_info and record.exc_info[1] is not None:
            errors.append(record.exc_info[1])
        return False

    loggers = [logging.getLogger(name) for name in _LOGGERS]
    for logger in loggers:
        logger.addFilter(keep)
    try:
        yield errors
    finally:
        for logger in loggers:
            logger.removeFilter(keep)
