"""How many members one pack should hold.

Measured on one core of a CPU: the processor time of a member and step alone, as a multiple of the time in a
pack of 8. Small networks are mostly overhead, which a pack pays once; wide ones fill the core alone, and in a
pack their weights and moments only push each other out of its caches.

    network             parameters    batch 64    batch 256
    64-32-16-10              2,778         5.2          3.1
    64-128-64-10            17,226         3.6          1.7
    784-64-32-10            52,650         2.4          1.4
    784-128-64-10          109,386         2.2          1.7
    784-256-128-10         235,146         1.7          1.6
    784-512-256-10         535,818         0.8          1.0
    3072-512-256-10      1,707,274         0.7          0.8

These numbers date from before steps on a CPU became faster. Since then, on another processor
(benchmarks/NOTES.md) and at batch 256, the multiple is 1.8 for 784-32-10, 1.6 for 784-64-32-10, 1.3 for
784-128-64-10, 1.0 for 784-256-128-10 (1.1 against a pack of 4) and 0.9 for 784-512-256-10.

On CUDA (one H200, torch 2.11, 784-512-256-10, batch 256, tf32) a member and step take 133 µs in a pack of 1,
29 in one of 8, 15 in 32, 12 in 128, 11 in 256 and in 512: at 64 million parameters in all, 119 such members,
the work is several times the overhead.
"""

import itertools

from arsvd.training.architecture import Architecture

# CPU: pairs of a network's number of parameters and the pack size that pays off up to there, see above.
CPU_PACKS = ((50_000, 8), (250_000, 4))

CUDA_PARAMS = 64_000_000  # in all members of a pack
CUDA_MOST = 256  # more at a time would leave a search too few rounds to learn from
CUDA_MEMORY = 8 * 2**30  # bytes that a pack may take of a whole GPU; the smallest in use today have 16 GiB


def pack_size(
    architecture: Architecture, batch_size: int, samples: int, device: str, share: float = 1.0
) -> int:
    """Choose the number of members of a pack.

    Args:
        architecture: architecture of the network that decides, with its factors as they are trained.
        batch_size: images per step.
        samples: number of training images.
        device: "cpu" or "cuda".
        share: share of a GPU that the pack has, in (0, 1].

    Returns:
        At least 1.
    """
    params = trained_params(architecture)
    if device != "cuda":
        return next((pack for limit, pack in CPU_PACKS if params <= limit), 1)
    fits = int(CUDA_MEMORY * min(share, 1.0)) // member_bytes(architecture, batch_size, samples)
    return max(1, min(CUDA_PARAMS // params, CUDA_MOST, fits))


def trained_params(architecture: Architecture) -> int:
    """Count the weights and biases that are trained: with LoRITa, those of every factor."""
    return sum(sum(a * b for a, b in itertools.pairwise(dims)) + dims[-1] for dims in architecture)


def member_bytes(architecture: Architecture, batch_size: int, samples: int) -> int:
    """Estimate how many bytes one member takes on a GPU while a pack is trained in float32.

    Args:
        architecture: architecture of the member, with its factors as they are trained.
        batch_size: images per step.
        samples: number of training images.
    """
    weights = 4 * 4 * trained_params(architecture)  # with both moments and the gradient
    # inputs as bytes and as numbers before and after normalisation; per unit: product, ReLU, dropout's bits,
    # mask and product, and gradients; between two factors: product and gradient
    units, inner = sum(dims[-1] for dims in architecture), sum(sum(dims[1:-1]) for dims in architecture)
    batch = batch_size * (9 * architecture[0][0] + 4 * 8 * units + 4 * 2 * inner)
    order = 2 * 12 * samples  # keys and numbers while an epoch's order is sorted
    return weights + batch + order
