"""Image data sets as uint8 tensors: `load` one by name, `fetch` its files."""

from arsvd.data.dataset import DataError, Dataset, Split
from arsvd.data.loading import NAMES, fetch, load
from arsvd.data.roots import data_root

__all__ = ["NAMES", "DataError", "Dataset", "Split", "data_root", "fetch", "load"]
