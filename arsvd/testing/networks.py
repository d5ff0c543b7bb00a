"""Small networks on which methods are tried, including extreme ones."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from arsvd.mlp import MLP
from arsvd.sites.finding import find_sites
from arsvd.statistics.factorise import spectra
from arsvd.statistics.spectrum import Spectra

FEATURES = 12


def low_rank() -> nn.Module:
    """Make a network with true ranks 2, 1 and 3 of 10, 8 and 4."""
    model = MLP([FEATURES, 10, 8, 4]).double()
    with torch.no_grad():
        for site, rank in zip(find_sites(model).values(), (2, 1, 3), strict=True):
            rows, columns = site.weight.shape
            site.weight.copy_(torch.randn(rows, rank).double() @ torch.randn(rank, columns).double())
            site.weight.div_(site.weight.norm())
    return model


def zeroed(model: nn.Module) -> nn.Module:
    """Set every parameter to zero."""
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    return model


# Each takes (rows, FEATURES) in float64; made after `torch.manual_seed`.
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "three layers": lambda: MLP([FEATURES, 10, 8, 4]).double(),
    "rank-deficient": low_rank,
    "zero weights": lambda: zeroed(MLP([FEATURES, 10, 8, 4]).double()),
    "one output, one input": lambda: MLP([FEATURES, 1, 9]).double(),
    "convolutions": lambda: nn.Sequential(
        nn.Unflatten(1, (2, 2, 3)),
        nn.Conv2d(2, 6, 2, padding=1),
        nn.ReLU(),
        nn.Conv2d(6, 4, (1, 2), groups=2, bias=False),
        nn.Flatten(),
        nn.Linear(36, 4),
    ).double(),
    "without biases": lambda: nn.Sequential(
        nn.Linear(FEATURES, 10, bias=False), nn.ReLU(), nn.Linear(10, 4, bias=False)
    ).double(),
}


def network(name: str) -> nn.Module:
    """Make a network; every call returns the same one."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return NETWORKS[name]()


def inputs(rows: int = 60) -> Tensor:
    """Draw inputs (rows, FEATURES) in float64; every call returns the same ones."""
    return torch.randn(rows, FEATURES, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + 0.5


def factorised(model: nn.Module, basis: str) -> Spectra:
    """Factorise a network in a basis, on `inputs()`."""
    return spectra(model, None if basis == "weight" else inputs(), basis=basis, example=inputs())
