"""The contract of a data source."""

from collections.abc import Callable
from pathlib import Path

import torch

from arsvd.data.sources.base import DataSource


def options_are_of_the_data_set(source: DataSource, root: Path) -> None:
    """Settings of a source belong to the section of the data set, and say what they are."""
    for option in source.options:
        section, _, name = option.key.partition(".")
        assert section == "dataset", option.key
        assert name.isidentifier(), option.key
        assert option.help, option.key
        assert not option.forms, option.key  # all members of a sweep see the same images


def labels_are_classes_and_splits_are_alike(source: DataSource, root: Path) -> None:
    """Every split has images of one shape, and labels that are indices into the classes."""
    found = source.read(source.example(root))
    splits = [split for split in (found.train, found.test, found.validation) if split is not None]
    assert len(set(found.classes)) == len(found.classes) >= 2
    assert len({tuple(split.images.shape[1:]) for split in splits}) == 1
    assert found.scale > 0
    for split in splits:
        assert len(split) > 0
        assert 0 <= int(split.labels.min()) <= int(split.labels.max()) < len(found.classes)


def reading_twice_gives_the_same(source: DataSource, root: Path) -> None:
    """Nothing is drawn anew: a data set is identified by its content."""
    request = source.example(root)
    once, again = source.read(request), source.read(request)
    assert once.classes == again.classes
    for one, other in ((once.train, again.train), (once.test, again.test)):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)


CHECKS: dict[str, Callable[[DataSource, Path], None]] = {
    check.__name__: check
    for check in (
        options_are_of_the_data_set,
        labels_are_classes_and_splits_are_alike,
        reading_twice_gives_the_same,
    )
}
