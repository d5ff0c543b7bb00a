"""The precision of matrix products."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

PRECISIONS = ("float32", "tf32", "bfloat16")


def default_precision(device: torch.device) -> str:
    """Choose tf32 on CUDA and float32 elsewhere.

    tf32 needs no casts of the weights, which bfloat16 makes anew every step, and rounds 8 times finer.
    """
    return "tf32" if device.type == "cuda" else "float32"


def check_precision(precision: str, device: torch.device) -> None:
    """Refuse a precision that the device does not have.

    Raises:
        ValueError: the precision is unknown, or is tf32 on a device other than CUDA.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"unknown precision {precision!r}; there are {list(PRECISIONS)}")
    if precision == "tf32" and device.type != "cuda":
        raise ValueError(f"tf32 exists on CUDA devices only, the pack is on {device}")


@contextmanager
def matrix_products(precision: str, device: torch.device) -> Iterator[None]:
    """Let float32 matrix products round as tf32 does, for as long as the context lasts.

    This includes bfloat16: autocast covers the steps only, and validation need not be finer than they are. On
    a CPU nothing changes. torch has no such setting per call; the previous one is restored at the end.

    Args:
        precision: name of the precision in `PRECISIONS`.
        device: device of the products.
    """
    if precision == "float32" or device.type != "cuda":
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
