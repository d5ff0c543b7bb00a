"""Sites: the places in a model that can be compressed.

A kind of site is a file here and a line in `SITES`, and passes `arsvd.testing.sites`.
"""

from arsvd.registry import Registry
from arsvd.sites.base import Site

SITES: Registry[type[Site]] = Registry(
    "site",
    "arsvd.sites",
    {"linear": "linear:LinearSite", "conv2d": "conv2d:Conv2dSite"},
)

__all__ = ["SITES", "Site"]
