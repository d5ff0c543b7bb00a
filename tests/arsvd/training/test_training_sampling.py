"""What members see: normalised, mirrored, in an order of their own; and dropout."""

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from arsvd.training import normalized
from arsvd.training.sampling import Batches, Dropout

MEAN, STD = (0.2, 0.5, 0.7), (0.3, 0.25, 0.1)


@pytest.fixture
def images() -> Tensor:
    return torch.randint(0, 256, (50, 3, 4, 6), dtype=torch.uint8)


@pytest.fixture
def labels() -> Tensor:
    return torch.arange(50)


def plain(images: Tensor) -> Tensor:
    """(x / 255 - mean) / std, as torchvision does it."""
    return transforms.normalize(images.double() / 255, list(MEAN), list(STD)).flatten(1)


def batches_of(
    images: Tensor, labels: Tensor, seeds: list[int], size: int = 8, flip: bool = False
) -> Batches:
    return Batches(images, labels, MEAN, STD, seeds, size, flip, torch.float64)


class TestNormalisation:
    def test_equals_torchvision(self, images: Tensor, labels: Tensor) -> None:
        inputs = batches_of(images, labels, [0]).inputs(torch.arange(50)[None])
        torch.testing.assert_close(inputs[0], plain(images), rtol=1e-12, atol=1e-12)

    def test_normalized_is_the_same_in_single_precision(self, images: Tensor) -> None:
        single = normalized(images, MEAN, STD)
        assert single.dtype == torch.float32
        torch.testing.assert_close(single.double(), plain(images), rtol=1e-5, atol=1e-5)


class TestOrder:
    def test_each_epoch_is_a_new_permutation_of_each_member(self, images: Tensor, labels: Tensor) -> None:
        batches = batches_of(images, labels, [3, 4], size=10)
        epochs = []
        for _ in range(2):
            chosen = torch.cat([chosen for _, _, chosen, _ in batches.epoch()], dim=1)
            assert torch.equal(chosen.sort(dim=1).values, labels.expand(2, -1))
            epochs.append(chosen)
        assert not torch.equal(epochs[0], epochs[1])
        assert not torch.equal(epochs[0][0], epochs[0][1])

    def test_inputs_and_labels_belong_together(self, images: Tensor, labels: Tensor) -> None:
        exact = plain(images)
        for inputs, targets, chosen, mirrored in batches_of(images, labels, [3, 4]).epoch():
            assert mirrored is None
            assert torch.equal(targets, chosen)
            torch.testing.assert_close(inputs, exact[chosen])

    def test_a_member_sees_the_same_in_any_pack(self, images: Tensor, labels: Tensor) -> None:
        alone = batches_of(images, labels, [7], flip=True)
        together = batches_of(images, labels, [1, 7], flip=True)
        for _ in range(2):
            for mine, all_of_them in zip(alone.epoch(), together.epoch(), strict=True):
                assert all(torch.equal(a[0], b[1]) for a, b in zip(mine, all_of_them, strict=True))

    @pytest.mark.parametrize(
        ("size", "steps", "used"),
        [(8, 6, 8), (50, 1, 50), (51, 1, 50), (26, 1, 26), (1, 50, 1)],
    )
    def test_a_partial_batch_is_left_out(
        self, images: Tensor, labels: Tensor, size: int, steps: int, used: int
    ) -> None:
        batches = batches_of(images, labels, [0], size)
        assert [inputs.shape for inputs, *_ in batches.epoch()] == [(1, used, 72)] * steps
        assert (batches.steps, batches.batch_size) == (steps, used)


class TestFlips:
    def test_mirror_left_to_right_and_nothing_else(self, images: Tensor, labels: Tensor) -> None:
        batches = batches_of(images, labels, [0], flip=True)
        everything = torch.arange(50)[None]
        mirrored = torch.zeros(1, 50, dtype=torch.bool)
        mirrored[0, ::3] = True
        inputs = batches.inputs(everything, mirrored)[0]
        expected = torch.where(mirrored[0, :, None], plain(transforms.horizontal_flip(images)), plain(images))
        torch.testing.assert_close(inputs, expected)
        assert not torch.equal(plain(images), plain(images.flip(-1)))

    def test_half_of_the_images_are_mirrored(self, images: Tensor, labels: Tensor) -> None:
        batches = batches_of(images, labels, [0, 1], size=50, flip=True)
        flips = torch.cat([mirrored for _ in range(40) for *_, mirrored in batches.epoch()], dim=1)
        assert flips.shape == (2, 2000)
        shares = flips.double().mean(1)
        assert ((shares - 0.5).abs() < 4 * 0.5 / 2000**0.5).all()
        assert not torch.equal(flips[0], flips[1])

    def test_the_batches_hold_what_they_say(self, images: Tensor, labels: Tensor) -> None:
        exact, other = plain(images), plain(images.flip(-1))
        for inputs, _, chosen, mirrored in batches_of(images, labels, [5], flip=True).epoch():
            expected = torch.where(mirrored[..., None], other[chosen], exact[chosen])
            torch.testing.assert_close(inputs, expected)


class TestDropout:
    def test_masks_scale_what_they_keep(self) -> None:
        rates, widths = [0.0, 0.25, 0.8], [[6, 4, 8], [3, 5, 5]]
        dropout = Dropout(rates, [0, 1, 2], widths, torch.device("cpu"), torch.float64)
        masks = dropout.masks(4000)
        assert masks is not None
        assert [tuple(mask.shape) for mask in masks] == [(3, 4000, 8), (3, 4000, 5)]
        for mask, layer_widths in zip(masks, widths, strict=True):
            for member, (rate, width) in enumerate(zip(rates, layer_widths, strict=True)):
                own, padding = mask[member, :, :width], mask[member, :, width:]
                assert set(own.unique().tolist()) == ({1.0} if rate == 0 else {0.0, 1 / (1 - rate)})
                assert float((own == 0).double().mean()) == pytest.approx(rate, abs=0.02)
                assert float(own.mean()) == pytest.approx(1.0, abs=0.06)
                assert (padding == 1).all()

    def test_nobody_drops_anything(self) -> None:
        assert Dropout([0.0, 0.0], [0, 1], [[3, 3]], torch.device("cpu"), torch.float32).masks(5) is None

    def test_a_member_draws_the_same_in_any_pack(self) -> None:
        def drawn(rates: list[float], seeds: list[int], widths: list[list[int]]) -> list[list[Tensor]]:
            dropout = Dropout(rates, seeds, widths, torch.device("cpu"), torch.float32)
            return [dropout.masks(5) or [] for _ in range(3)]

        alone = drawn([0.5], [9], [[4], [3]])
        together = drawn([0.0, 0.5, 0.1], [1, 9, 2], [[7, 4, 2], [3, 3, 6]])
        for step, masks in enumerate(alone):
            for layer, mask in enumerate(masks):
                assert torch.equal(mask[0], together[step][layer][1, :, : mask.shape[2]])
        assert not torch.equal(alone[0][0], alone[1][0])
