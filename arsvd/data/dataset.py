"""The data set that every other part works on: three splits of uint8 images, and what is known about them."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arsvd.data.errors import DataError

SPLITS = ("train", "validation", "test")  # what trials get; they never see the confirmation images


@dataclass(frozen=True, eq=False)
class Split:
    """Images and their labels.

    Args:
        images: uint8 `(samples, channels, height, width)`.
        labels: int64 `(samples,)`, indices into the data set's classes.

    Raises:
        DataError: a tensor of another type or shape, or another number of labels than images.
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.ndim != 4:
            raise DataError(
                "images must be uint8 (samples, channels, height, width), "
                f"got {self.images.dtype} {tuple(self.images.shape)}"
            )
        if self.labels.dtype != torch.int64 or self.labels.ndim != 1:
            raise DataError(
                f"labels must be int64 (samples,), got {self.labels.dtype} {tuple(self.labels.shape)}"
            )
        if len(self.images) != len(self.labels):
            raise DataError(f"{len(self.images)} images but {len(self.labels)} labels")

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: NDArray[np.int64]) -> Split:
        """Copy the samples at `indices`, in that order."""
        chosen = torch.from_numpy(indices)
        return Split(self.images[chosen], self.labels[chosen])


@dataclass(frozen=True, eq=False)
class Source:
    """The images that a source holds, with what is known about them.

    Args:
        classes: names of the classes, in the order of the labels.
        train: training split; the validation images are still to be taken out of it where `validation` is
            None.
        test: test split.
        validation: validation split; None where it is to be held out of `train`.
        notes: notes for people, see `Dataset.notes`.
        scale: level that is 1.0 in a model's input, see `Dataset.scale`.
    """

    classes: tuple[str, ...]
    train: Split
    test: Split
    validation: Split | None = None
    notes: tuple[str, ...] = ()
    scale: float = 255.0


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set, split and described.

    Args:
        name: name of the source, one of `arsvd.data.NAMES`.
        classes: names of the classes, in the order of the labels.
        train: split on which weights are fitted.
        validation: split on which every choice is made; held out of the source's training images.
        test: split that is measured once, for the members of the final front.
        mean: mean of each channel, of pixels in [0, 1], over `train` only.
        std: standard deviation of each channel, like `mean`; 1.0 for a channel of one constant value.
        hash: `content_hash` of the classes and splits.
        notes: sentences for people that say what was read, left out and changed.
        scale: level in the source's files that is 1.0 in a model's input: 255, unless they have more than 8
            bits.
        origin: text that tells apart data sets of one name that come from two places.
        confirmation: split that confirms what was chosen on `validation`, and is used for no choice; None
            where none is held out.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    mean: tuple[float, ...]
    std: tuple[float, ...]
    hash: str
    notes: tuple[str, ...] = ()
    scale: float = 255.0
    origin: str = ""
    confirmation: Split | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(channels, height, width)` of one image."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    @property
    def features(self) -> int:
        """Numbers in one image: channels × height × width."""
        channels, height, width = self.shape
        return channels * height * width

    @property
    def colour(self) -> bool:
        """Whether the images have three channels."""
        return self.shape[0] == 3

    def to(self, device: torch.device | str) -> Dataset:
        """Return the data set with every split on a device; tensors that are there already stay the same."""
        train, validation, test = (
            Split(split.images.to(device), split.labels.to(device))
            for split in (self.train, self.validation, self.test)
        )
        return replace(self, train=train, validation=validation, test=test)

    def to_numpy(self) -> dict[str, Any]:
        """Return the data set as numpy arrays, which share memory with its tensors, and plain values.

        Returns:
            `<split>_images` and `<split>_labels` for train, validation and test; the other fields by name,
            except `notes`, `scale` and `origin`, which no training needs.
        """
        values: dict[str, Any] = {
            "name": self.name,
            "classes": self.classes,
            "mean": self.mean,
            "std": self.std,
            "hash": self.hash,
        }
        for name in SPLITS:
            split: Split = getattr(self, name)
            values[f"{name}_images"] = split.images.numpy()
            values[f"{name}_labels"] = split.labels.numpy()
        return values

    @classmethod
    def from_numpy(cls, values: Mapping[str, Any]) -> Dataset:
        """Rebuild the data set that `to_numpy` described. Arrays are not copied.

        An object store hands out read-only arrays. The tensors made from them must then only be read.
        """
        splits = {
            name: Split(_share(values[f"{name}_images"]), _share(values[f"{name}_labels"])) for name in SPLITS
        }
        return cls(
            name=str(values["name"]),
            classes=tuple(values["classes"]),
            train=splits["train"],
            validation=splits["validation"],
            test=splits["test"],
            mean=tuple(values["mean"]),
            std=tuple(values["std"]),
            hash=str(values["hash"]),
        )


def describe(
    name: str,
    classes: tuple[str, ...],
    train: Split,
    validation: Split,
    test: Split,
    confirmation: Split | None = None,
) -> Dataset:
    """Build a data set from its splits: measure mean and deviation on `train`, and hash the content."""
    mean, std = channel_statistics(train.images)
    return Dataset(
        name=name,
        classes=classes,
        train=train,
        validation=validation,
        test=test,
        mean=mean,
        std=std,
        # without confirmation images the hash equals that of releases that did not know them
        hash=content_hash(
            classes, tuple(s for s in (train, validation, test, confirmation) if s is not None)
        ),
        confirmation=confirmation,
    )


def channel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Compute the mean and population standard deviation of each channel, for pixels in [0, 1].

    Both come from counts of the 256 pixel values, so they do not depend on the order of summation.

    Args:
        images: pixels `(samples, channels, height, width)`, uint8.

    Returns:
        Means and deviations, one per channel. A constant channel has deviation 1.0, so that it can be divided
        by.
    """
    values = torch.arange(256, dtype=torch.float64) / 255
    means: list[float] = []
    deviations: list[float] = []
    for channel in images.unbind(1):
        share = torch.bincount(channel.reshape(-1), minlength=256).double() / channel.numel()
        mean = share @ values
        deviation = float((share @ (values - mean) ** 2).sqrt())
        means.append(float(mean))
        # Not "> 0": the mean of a constant channel is rounded, which leaves a deviation of about 1e-17.
        deviations.append(deviation if deviation > 1e-9 else 1.0)
    return tuple(means), tuple(deviations)


def content_hash(classes: tuple[str, ...], splits: tuple[Split, ...]) -> str:
    """Hash everything that can change a result: class names, pixels, labels, their order. SHA-256, in hex."""
    digest = hashlib.sha256(b"arsvd data 1\n")
    digest.update("\0".join(classes).encode("utf-8", "surrogateescape"))
    for split in splits:
        # The shape goes first: two splits that are cut at different samples must not give the same bytes.
        digest.update(f"\n{tuple(split.images.shape)}\n".encode())
        digest.update(np.ascontiguousarray(split.images.numpy()).data)
        digest.update(np.ascontiguousarray(split.labels.numpy(), dtype="<i8").data)
    return digest.hexdigest()


def _share(array: NDArray[Any]) -> Tensor:
    with warnings.catch_warnings():
        # torch warns that a tensor could write to a read-only array. Nothing here writes to a data set.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        return torch.from_numpy(array)
