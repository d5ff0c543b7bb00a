"""Image data sets as uint8 tensors: `load` one by name, `fetch` its files.

A name is imported when it is first used, so that sweep files can be checked without torch.
"""

from typing import TYPE_CHECKING

from arsvd.lazy import lazy_names

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


__getattr__ = lazy_names(__name__, _PLACES)
