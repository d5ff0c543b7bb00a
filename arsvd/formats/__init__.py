"""Formats: how a site is stored, from its dense weight to its smallest form.

A format is a file here and a line in `FORMATS`, and passes `arsvd.testing.formats`.
"""

from arsvd.formats.base import Format
from arsvd.registry import Registry

DENSE, LOW_RANK = "dense", "low_rank"

FORMATS: Registry[Format] = Registry(
    "format",
    "arsvd.formats",
    {"dense": "dense:DENSE", "low_rank": "low_rank:LOW_RANK"},
)

__all__ = ["DENSE", "FORMATS", "LOW_RANK", "Format"]
