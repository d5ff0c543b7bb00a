"""Image data sets as uint8 tensors: `load` one by name, `fetch` its files.

A name is imported when it is first used: sweep files are checked without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from arsvd.data.dataset import Dataset, Split
    from arsvd.data.errors import DataError
    from arsvd.data.loading import NAMES, fetch, load
    from arsvd.data.roots import data_root

_PLACES = {
    "dataset": ("Dataset", "Split"),
    "errors": ("DataError",),
    "loading": ("NAMES", "fetch", "load"),
    "roots": ("data_root",),
}

__all__ = ["NAMES", "DataError", "Dataset", "Split", "data_root", "fetch", "load"]


def __getattr__(name: str) -> Any:
    for module, names in _PLACES.items():
        if name in names:
            return getattr(import_module(f"arsvd.data.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
