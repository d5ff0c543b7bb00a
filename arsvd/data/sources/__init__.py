"""Data sources: where images come from.

A source is a file here and a line in `SOURCES`, and passes `arsvd.testing.sources`.
"""

from arsvd.data.sources.base import DataSource, Request
from arsvd.registry import Registry

SOURCES: Registry[DataSource] = Registry(
    "data set",
    "arsvd.data.sources",
    {
        "digits": "digits:DIGITS",
        "mnist": "mnist:MNIST",
        "cifar10": "cifar:CIFAR10",
        "cifar100": "cifar:CIFAR100",
        "imagefolder": "imagefolder:IMAGEFOLDER",
    },
)

__all__ = ["SOURCES", "DataSource", "Request"]
