"""Which energies may be nothing but rounding."""

import math

import torch
from torch import Tensor

from arsvd.statistics import BASES


def noise_floor(energies: Tensor, weight: Tensor, basis: str, shifts: Tensor) -> Tensor:
    """Return the energies below which a component may be nothing but rounding.

    There are three sources, of which the largest counts. Rounding a weight of shape (m, n) to its dtype adds
    independent errors of at most u |w|, where u is the unit roundoff; the largest singular value of such an
    error matrix is about u ||W||_F (1/sqrt(m) + 1/sqrt(n)), and its energy is the square of that. (The usual
    m * eps of `matrix_rank` is above 1 for bfloat16 and would call every weight zero.) With calibration
    inputs, sums of n products in float32 are off by up to about eps sqrt(n) of their size, the mean included,
    and the m outputs share that energy. Finally, the eigenvalues of a float64 matrix are exact to about
    m * eps64 of its largest one before the mean was subtracted.

    Args:
        energies: float64 energies (layers, k), descending.
        weight: weight (m, n) of one of these layers, in the dtype that the model stores.
        basis: name of the basis, "weight", "activation" or "loss".
        shifts: squared norm of the mean of Wx in the metric of the energies, (layers,); zeros in the weight
            basis.

    Returns:
        Energies (layers,), float64.
    """
    rows, columns = weight.shape
    roundoff = torch.finfo(weight.dtype).eps / 2
    sums = energies.sum(1)
    rounding = sums * (roundoff * (1 / math.sqrt(rows) + 1 / math.sqrt(columns))) ** 2
    arithmetic = (energies[:, 0] + shifts) * rows * torch.finfo(torch.float64).eps
    floors = torch.maximum(rounding, arithmetic)
    if BASES[basis].calibrated and weight.dtype != torch.float64:
        products = (sums + shifts) * columns / rows * torch.finfo(torch.float32).eps ** 2
        floors = torch.maximum(floors, products)
    return floors
