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
    """How a source is to be read.

    Attributes:
        root: Data directory, an absolute path.
        validation: As in `arsvd.data.load`; for a source that holds its validation split out itself.
        seed: As in `arsvd.data.load`.
        settings: Values of the source's own options, by the last part of their keys.
    """

    root: Path
    validation: int | float
    seed: int
    settings: Mapping[str, Any]


class DataSource(ABC):
    """Where images come from.

    Attributes:
        options: Settings that belong to this source alone; their keys begin with "dataset.".
        named_by_its_files: Whether a sweep is named after the files, once they were read, and not the source.
    """

    options: ClassVar[tuple[Option[Any], ...]] = ()
    named_by_its_files: ClassVar[bool] = False

    @abstractmethod
    def read(self, request: Request) -> Source:
        """Read the images.

        Raises:
            DataError: They are missing, broken, or cannot be split as asked; all faults at once.
            OSError: They cannot be read.
        """

    @abstractmethod
    def example(self, root: Path) -> Request:
        """Write a small data set of made-up images in the source's own format, for the contract.

        Args:
            root: An empty directory.

        Returns:
            How it is read.
        """

    @abstractmethod
    def fetch(self, root: Path) -> Path:
        """Download the files, unless they are there and whole.

        Args:
            root: Data directory.

        Returns:
            The directory of the files.

        Raises:
            DataError: A failed download, with its cause, or a source that is not fetched.
        """
