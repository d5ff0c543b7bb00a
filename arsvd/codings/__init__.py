"""Codings: whole numbers as bytes and back, without loss.

A coding is a file here and a line in `CODINGS`, and passes `arsvd.testing.codings`.
"""

from arsvd.codings.base import Coding, CodingError
from arsvd.registry import Registry

CODINGS: Registry[Coding] = Registry(
    "coding",
    "arsvd.codings",
    {"packed": "packed:PACKED", "adaptive": "adaptive:ADAPTIVE"},
)

__all__ = ["CODINGS", "Coding", "CodingError"]
