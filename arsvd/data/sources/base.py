"""What every data source promises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from arsvd.data.dataset import Source
    from arsvd.options import Option


@dataclass(frozen=True)
class Request:
    """How a source should be read.

    Attributes:
        root: data directory, an absolute path.
        validation: amount to hold out, as in `arsvd.data.load`; for a source that holds out its validation
            split itself.
        seed: seed that chooses the validation images, as in `arsvd.data.load`.
        settings: values of the source's own options, by the last part of their keys.
    """

    root: Path
    validation: int | float
    seed: int
    settings: Mapping[str, Any]


class DataSource(ABC):
    """Where images come from.

    Attributes:
        options: settings that belong to this source alone; their keys begin with "dataset.".
        named_by_its_files: True if a sweep is named after the files, once they were read, and not after the
            source.
    """

    options: ClassVar[tuple[Option[Any], ...]] = ()
    named_by_its_files: ClassVar[bool] = False

    @abstractmethod
    def read(self, request: Request) -> Source:
        """Read the images.

        Raises:
            DataError: images are missing, broken, or cannot be split as asked; all faults at once.
            OSError: the files cannot be read.
        """

    @abstractmethod
    def example(self, root: Path) -> Request:
        """Write a small data set of made-up images in the source's own format, for the contract.

        Args:
            root: an empty directory.

        Returns:
            How it is read.
        """

    @abstractmethod
    def fetch(self, root: Path) -> Path:
        """Download the files, unless they are there and whole.

        Args:
            root: data directory.

        Returns:
            The directory of the files.

        Raises:
            DataError: a failed download, with its cause, or a source that is not fetched.
        """
