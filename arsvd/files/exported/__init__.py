"""Models as torch.export writes them: `.pt2` files, which hold a program and its weights, no Python code."""

from arsvd.files.exported.graph import InputShape, closed_regions
from arsvd.files.exported.reading import read_exported
from arsvd.files.exported.regions import ClosedRegion
from arsvd.files.exported.writing import check_program, export, program_bytes, write_exported

__all__ = [
    "ClosedRegion",
    "InputShape",
    "check_program",
    "closed_regions",
    "export",
    "program_bytes",
    "read_exported",
    "write_exported",
]
