"""Packs hold as many members as pay, and no more than fit."""

import pytest

from arsvd.training import Pack, new_architecture
from arsvd.training.sizing import CUDA_MEMORY, CUDA_MOST, member_bytes, pack_size, trained_params

MNIST, CIFAR = 55_000, 45_000

# name: widths, factors, batch, samples, device, share, members
SIZES: dict[str, tuple[list[int], int, int, int, str, float, int]] = {
    "digits on a CPU": ([64, 128, 64, 10], 1, 64, 1149, "cpu", 1.0, 8),
    "narrow MNIST on a CPU": ([784, 256, 128, 10], 1, 256, MNIST, "cpu", 1.0, 4),
    "wide MNIST on a CPU": ([784, 512, 256, 10], 1, 256, MNIST, "cpu", 1.0, 1),
    "digits with two factors on a CPU": ([64, 128, 64, 10], 2, 64, 1149, "cpu", 1.0, 8),
    "digits with six factors on a CPU": ([64, 128, 64, 10], 6, 64, 1149, "cpu", 1.0, 4),
    "narrow MNIST with two factors on a CPU": ([784, 256, 128, 10], 2, 256, MNIST, "cpu", 1.0, 1),
    "digits on a GPU": ([64, 128, 64, 10], 1, 64, 1149, "cuda", 1.0, CUDA_MOST),
    "MNIST on a GPU": ([784, 512, 256, 10], 1, 256, MNIST, "cuda", 1.0, 119),
    "MNIST with two factors on a GPU": ([784, 512, 256, 10], 2, 256, MNIST, "cuda", 1.0, 74),
    "MNIST on an eighth of a GPU": ([784, 512, 256, 10], 1, 256, MNIST, "cuda", 0.125, 59),
    "CIFAR on a GPU": ([3072, 1024, 512, 10], 1, 256, CIFAR, "cuda", 1.0, 17),
    "larger than any GPU": ([3072, 100_000, 100_000, 10], 1, 256, CIFAR, "cuda", 1.0, 1),
    "whole data sets in one batch": ([784, 64, 10], 1, MNIST, MNIST, "cuda", 1.0, 16),
}


@pytest.mark.parametrize(
    ("widths", "factors", "batch", "samples", "device", "share", "members"), SIZES.values(), ids=SIZES
)
def test_sizes(
    widths: list[int], factors: int, batch: int, samples: int, device: str, share: float, members: int
) -> None:
    architecture = new_architecture(widths, {"model.factors": factors})
    assert pack_size(architecture, batch, samples, device, share) == members
    if device == "cuda" and members > 1:
        assert members * member_bytes(architecture, batch, samples) <= CUDA_MEMORY * share


@pytest.mark.parametrize("factors", [1, 2, 3])
def test_trained_params_counts_the_trained_parameters(factors: int) -> None:
    architecture = new_architecture([12, 9, 14, 4], {"model.factors": factors})
    pack = Pack.from_seeds([architecture], [0])
    assert trained_params(architecture) == sum(parameter.numel() for parameter in pack.parameters)
