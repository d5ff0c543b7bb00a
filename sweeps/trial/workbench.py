"""The things that members of one process share: the data on the device, and the settings of the sweep."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from arsvd.candidates.base import view_name
from arsvd.data import Dataset
from arsvd.formats import LOW_RANK
from arsvd.statistics import best_basis
from arsvd.training import normalized
from sweeps.config import MemberConfig, Space, SweepConfig


@dataclass(frozen=True)
class Analysis:
    """The points at which every trained member is measured.

    Attributes:
        bases: bases whose points may join the front.
        rules: rank rules, such as "energy" or "entropy".
        thresholds: thresholds of these rules.
        families: sources of candidate points, as the sweep file names them.
        max_drop: largest drop in validation accuracy of the best point; recovery aims below it.
        formats: formats whose points may join the front.
    """

    bases: tuple[str, ...]
    rules: tuple[str, ...]
    thresholds: tuple[float, ...]
    families: tuple[str, ...]
    max_drop: float
    formats: tuple[str, ...] = (LOW_RANK,)

    @classmethod
    def from_config(cls, config: SweepConfig) -> "Analysis":
        """Take the settings from a sweep file."""
        space = Space.from_config(config)
        return cls(
            bases=space.bases(),
            rules=space.rules(),
            thresholds=tuple(space.energies()),
            families=config.compression.families,
            max_drop=config.select.max_drop,
            formats=config.compression.formats,
        )

    @property
    def main_basis(self) -> str:
        """Basis that costly families work in: the best one that is searched."""
        return best_basis(self.bases)

    @property
    def views(self) -> tuple[str, ...]:
        """Views of a model whose points may join the front: each basis in each format."""
        return tuple(view_name(basis, format) for format in self.formats for basis in self.bases)

    @property
    def main_view(self) -> str:
        """View that costly families work in: the best basis in the first format."""
        return view_name(self.main_basis, self.formats[0])


class Workbench:
    """A data set on a device, with results that are computed from it once.

    Args:
        dataset: data set on any device.
        device: device on which members are trained.
        clock: clock in seconds, for the duration of each step of a member.
    """

    def __init__(
        self, dataset: Dataset, device: torch.device, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.device = device
        self.clock = clock
        self.dataset = dataset.to(device)
        self._calibration: dict[int, Tensor] = {}

    @cached_property
    def validation(self) -> tuple[Tensor, Tensor]:
        """Normalised validation inputs (samples, features) and labels (samples,)."""
        split = self.dataset.validation
        return normalized(split.images, self.dataset.mean, self.dataset.std), split.labels

    def calibration(self, images: int) -> Tensor:
        """Return normalised training inputs (at most `images`, features), the same ones at every call."""
        if images not in self._calibration:
            pixels = self.dataset.train.images
            chosen = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(0))[:images]
            self._calibration[images] = normalized(
                pixels[chosen.to(self.device)], self.dataset.mean, self.dataset.std
            )
        return self._calibration[images]

    def flip(self, config: MemberConfig) -> bool:
        """Tell whether a member's training images are mirrored at random; by default colour images are."""
        return self.dataset.colour if config.flip is None else config.flip
