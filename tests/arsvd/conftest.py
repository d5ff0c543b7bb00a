"""What the tests of the numerics share: small nets, made-up spectra, and brute force."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

import arsvd
from arsvd.cost import Cost
from arsvd.data import Dataset, load
from arsvd.training import Hyperparameters, Pack, dense_architecture, normalized, train
from benchmarks.operations import Operations

RankTuple = tuple[int | None, ...]


@contextmanager
def one_thread() -> Iterator[None]:
    """Matrices here are tiny: threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def one_seeded_thread() -> Iterator[None]:
    torch.manual_seed(0)
    with one_thread():
        yield


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load("digits", validation=0.2)


@pytest.fixture(scope="session")
def validation(digits: Dataset) -> tuple[Tensor, Tensor]:
    """Normalised images (rows, 64) of digits and their labels."""
    return normalized(digits.validation.images, digits.mean, digits.std), digits.validation.labels


@pytest.fixture(scope="session")
def calibration(digits: Dataset) -> Tensor:
    return normalized(digits.train.images, digits.mean, digits.std)


@pytest.fixture(scope="session")
def trained(digits: Dataset) -> nn.Module:
    """A net with few enough ranks that every rank tuple can be tried, trained on digits."""
    pack = Pack.from_seeds([dense_architecture([64, 12, 8, 10])], [0])
    with one_thread():  # fixtures of the session are made before those of a test
        train(pack, digits, [Hyperparameters(lr=2e-2)], epochs=12, batch_size=64)
    return pack.model(0, merge=True)


@pytest.fixture
def made_up() -> Callable[..., arsvd.Spectra]:
    """Make spectra of given shapes and energies, for rules that look at nothing else."""

    def make(
        shapes: Sequence[tuple[int, int]],
        energies: Sequence[Sequence[float]],
        basis: str = "weight",
        other_params: int = 0,
        bias: bool = True,
    ) -> arsvd.Spectra:
        layers = []
        for number, ((rows, columns), energy) in enumerate(zip(shapes, energies, strict=True)):
            full = min(rows, columns)
            assert len(energy) == full
            layers.append(
                arsvd.Spectrum(
                    name=f"layer{number}",
                    basis=basis,
                    out_features=rows,
                    in_features=columns,
                    has_bias=bias,
                    energy=torch.tensor(energy, dtype=torch.float64),
                    vectors=torch.eye(rows, full, dtype=torch.float64),
                    mean=torch.zeros(rows, dtype=torch.float64),
                )
            )
        return arsvd.Spectra(basis, tuple(layers), Cost.of(other_params, 0))

    return make


@pytest.fixture
def every_tuple() -> Callable[[arsvd.Spectra], list[RankTuple]]:
    """List every rank tuple that the break-even guard lets through, the dense one last."""

    def enumerate_all(spectra: arsvd.Spectra) -> list[RankTuple]:
        choices = []
        for s in spectra:
            useful = [r for r in range(1, s.largest + 1) if s.cost(r).numbers < s.cost(None).numbers]
            choices.append([*useful, None])
        return list(itertools.product(*choices))

    return enumerate_all


@pytest.fixture(scope="session")
def operations() -> Callable[[Callable[[], object]], Counter[str]]:
    """Run something and count the operations that it dispatches, by name."""

    def count(run: Callable[[], object]) -> Counter[str]:
        with Operations() as noted:
            run()
        return noted.names

    return count


# Widths of models that are stacked: what a test of them is to hold for.
PACKS = {
    "three alike": [[12, 14, 10, 4]] * 3,
    "different widths": [[12, 14, 10, 4], [12, 9, 20, 4], [12, 30, 10, 4], [12, 9, 10, 4]],
    "one layer": [[12, 4]] * 2,
    "two layers": [[12, 20, 4], [12, 7, 4]],
    "one member": [[12, 14, 10, 4]],
    "hidden layers of one unit": [[12, 1, 5, 4], [12, 5, 1, 4]],
}


@pytest.fixture
def new_models() -> Callable[..., list[arsvd.MLP]]:
    """Make MLPs of given widths, or of those that have a name above, whose spectra fall."""

    def make(widths: str | Sequence[Sequence[int]], dtype: torch.dtype = torch.float64) -> list[arsvd.MLP]:
        torch.manual_seed(1)
        models = [arsvd.MLP(each) for each in (PACKS[widths] if isinstance(widths, str) else widths)]
        with torch.no_grad():
            for model in models:
                for layer in arsvd.find_sites(model).values():
                    u, s, v = torch.linalg.svd(layer.weight, full_matrices=False)
                    layer.weight.copy_(u * (s * 3 * 0.75 ** torch.arange(len(s))) @ v)
        return [model.to(dtype).eval() for model in models]

    return make


@pytest.fixture(params=PACKS)
def pack_name(request: pytest.FixtureRequest) -> str:
    """Each name of a pack in turn."""
    return request.param


class Residual(nn.Module):
    """Not a chain: one input goes two ways."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(12, 10)
        self.block = nn.Sequential(nn.Linear(10, 10), nn.Tanh(), nn.Linear(10, 10, bias=False))
        self.head = nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(x + self.block(x))


class Nested(nn.Module):
    """Linear layers three levels deep, in a list and in a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = nn.ModuleList(
            [nn.Sequential(nn.Sequential(nn.Linear(12, 9), nn.ReLU())), nn.Linear(9, 12)]
        )
        self.named = nn.ModuleDict({"a": nn.Linear(12, 9, bias=False), "b": nn.ModuleList([nn.Linear(9, 4)])})

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.stack:
            x = layer(x)
        return self.named["b"][0](torch.relu(self.named["a"](x)))


class Attending(nn.Module):
    """A transformer layer, which reads its linear layers' weights directly in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.TransformerEncoderLayer(12, 2, 20, batch_first=True)
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x.reshape(-1, 1, 12).expand(-1, 3, -1)).mean(1))


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 3, 4)),
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(48, 16),
        nn.ReLU(),
        nn.Linear(16, 4),
    )


def repeated() -> nn.Module:
    layer = nn.Linear(12, 12)
    return nn.Sequential(layer, nn.Tanh(), layer, nn.Tanh(), nn.Linear(12, 4))


@pytest.fixture
def zoo() -> dict[str, Callable[[], nn.Module]]:
    """Models from 12 features to 4 classes, by name."""
    return {
        "mlp": lambda: arsvd.MLP([12, 14, 10, 4]),
        "nested sequential": lambda: nn.Sequential(
            nn.Sequential(nn.Linear(12, 14), nn.ReLU()), nn.Sequential(nn.Sequential(nn.Linear(14, 4)))
        ),
        "residual": Residual,
        "depth 3, list and dict": Nested,
        "convnet": convolutional,
        "transformer": Attending,
        "registered twice": repeated,
        "a linear layer as the root": lambda: nn.Linear(12, 4),
    }


ZOO = (
    "mlp",
    "nested sequential",
    "residual",
    "depth 3, list and dict",
    "convnet",
    "transformer",
    "registered twice",
    "a linear layer as the root",
)


@pytest.fixture(params=ZOO)
def anything(request: pytest.FixtureRequest, zoo: dict[str, Callable[[], nn.Module]]) -> nn.Module:
    """Each model of the zoo, with weights from seed 0 and a spectrum that falls, in evaluation mode."""
    assert set(zoo) == set(ZOO)
    torch.manual_seed(0)
    model = zoo[request.param]().eval()
    with torch.no_grad():
        for site in arsvd.find_sites(model).values():
            u, s, v = torch.linalg.svd(site.matrix, full_matrices=False)
            site.with_matrix(u * (s * 2 * 0.6 ** torch.arange(len(s))) @ v, None)
    return model
