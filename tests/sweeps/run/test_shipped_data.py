"""What of a data set leaves the driver: through Ray's object store, and beside each model to export."""

import pickle

import torch
from ray import cloudpickle
from torch import nn

from arsvd.data.dataset import Dataset, Split, describe
from sweeps.tracking.models import ModelData
from sweeps.tracking.programs import Order


def views() -> tuple[Dataset, int]:
    """A data set whose splits are views of a larger tensor, and the bytes of all splits."""
    images = torch.randint(0, 256, (4000, 1, 8, 8), dtype=torch.uint8)
    labels = torch.arange(4000) % 10
    splits = [Split(images[a:b], labels[a:b]) for a, b in ((100, 400), (1000, 1100), (2000, 2100))]
    size = sum(split.images.nbytes + split.labels.nbytes for split in splits)
    return describe("digits", tuple("0123456789"), *splits), size


def test_trials_get_only_the_values_of_the_splits() -> None:
    dataset, size = views()
    buffers: list[pickle.PickleBuffer] = []
    inside = cloudpickle.dumps(dataset.to_numpy(), protocol=5, buffer_callback=buffers.append)
    assert sum(buffer.raw().nbytes for buffer in buffers) == size
    assert len(inside) < 4_000


def test_an_order_takes_its_own_images_along() -> None:
    dataset, _ = views()
    data = ModelData.of(dataset)
    order = Order(nn.Flatten(), {}, data.examples, (data.name, data.hash, data.classes))
    assert torch.equal(data.examples, dataset.validation.images[: len(data.examples)])
    assert len(pickle.dumps(order)) < data.examples.nbytes + 4_000
