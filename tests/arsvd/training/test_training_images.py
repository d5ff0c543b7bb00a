"""Images: normalised as torchvision does it, gathered, changed on the way."""

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from arsvd.training import normalized
from arsvd.training.images import Images

MEAN, STD = (0.2, 0.5, 0.7), (0.3, 0.25, 0.1)


@pytest.fixture
def images() -> Tensor:
    return torch.randint(0, 256, (50, 3, 4, 6), dtype=torch.uint8)


@pytest.fixture
def source(images: Tensor) -> Images:
    return Images(images, torch.arange(50) * 2, MEAN, STD, torch.float64)


def plain(images: Tensor) -> Tensor:
    """(x / 255 - mean) / std, as torchvision does it."""
    return transforms.normalize(images.double() / 255, list(MEAN), list(STD)).flatten(1)


def test_inputs_equal_torchvisions(images: Tensor, source: Images) -> None:
    inputs = source.inputs(torch.arange(50)[None])
    torch.testing.assert_close(inputs[0], plain(images), rtol=1e-12, atol=1e-12)
    assert len(source) == 50


def test_normalized_is_the_same_in_single_precision(images: Tensor) -> None:
    single = normalized(images, MEAN, STD)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), plain(images), rtol=1e-5, atol=1e-5)


def test_inputs_and_labels_belong_together(images: Tensor, source: Images) -> None:
    chosen = torch.stack([torch.randperm(50)[:8] for _ in range(2)])
    assert torch.equal(source.labels(chosen), chosen * 2)
    torch.testing.assert_close(source.inputs(chosen), plain(images)[chosen])


def test_changes_are_applied_to_the_bytes_of_images(images: Tensor, source: Images) -> None:
    def blackened(pixels: Tensor) -> Tensor:
        assert pixels.shape == (50, 3, 4, 6)
        return pixels * (torch.arange(4, dtype=torch.uint8) > 1)[:, None]

    inputs = source.inputs(torch.arange(50)[None], blackened)[0]
    images[:, :, :2] = 0
    torch.testing.assert_close(inputs, plain(images))


@pytest.mark.parametrize("flips", [False, True], ids=["plain", "flips"])
def test_in_place_is_the_same_in_the_place_of_the_last(source: Images, flips: bool) -> None:
    batches = [torch.randperm(50)[None, :8] for _ in range(2)]
    change = (lambda pixels: pixels.flip(-1)) if flips else None
    first = source.inputs(batches[0], change, in_place=True)
    kept, place = first.clone(), first.data_ptr()
    second = source.inputs(batches[1], change, in_place=True)
    assert torch.equal(kept, source.inputs(batches[0], change))
    assert torch.equal(second, source.inputs(batches[1], change))
    assert second.data_ptr() == place
    assert source.inputs(batches[1][:, :3], in_place=True).shape == (1, 3, 72)
    assert source.inputs(batches[1]).data_ptr() != place
