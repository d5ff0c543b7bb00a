"""The group lasso: its value as one writes it down, empty columns, and what it does."""

import math

import torch
from torch import Tensor

from arsvd.data import Dataset
from arsvd.training import Architecture, Hyperparameters, Pack, new_architecture, train
from arsvd.training.images import Images
from arsvd.training.methods.lasso import Lasso
from arsvd.training.setup import Setup

WEIGHTS = (0.5, 0.0, 2.0)


def lasso_of(architectures: list[Architecture]) -> tuple[Pack, Lasso]:
    pack = Pack.from_seeds(architectures, range(len(architectures)), dtype=torch.float64)
    members = [Hyperparameters(1e-3, settings={"training.lasso.weight": w}) for w in WEIGHTS]
    images = Images(torch.zeros(4, 1, 2, 3, dtype=torch.uint8), torch.zeros(4).long(), [0.0], [1.0])
    return pack, Lasso(Setup.of(pack, images, members[: len(architectures)]))


def test_it_sums_the_norms_of_own_columns() -> None:
    architectures = [new_architecture([6, width, 3], {"model.factors": 2}) for width in (4, 9, 2)]
    pack, lasso = lasso_of(architectures)
    found = lasso.penalty()
    assert found is not None
    factors = [weight for layer in pack.weights for weight in layer]
    for member, weight in enumerate(WEIGHTS):
        expected = 0.0
        for factor, (rows, columns) in list(zip(factors, pack.own_shapes(member), strict=False))[:-1]:
            for column in factor[member, :rows, :columns].T:
                expected += weight * math.sqrt(rows) * math.sqrt(float((column**2).sum()))
        assert math.isclose(float(found[member]), expected, rel_tol=1e-12)


def test_an_empty_column_gets_no_gradient() -> None:
    pack, lasso = lasso_of([((6, 5), (5, 3))])
    factor = pack.weights[0][0]
    factor[0, :, 2] = 0
    factor.requires_grad_(True)
    penalty = lasso.penalty()
    assert penalty is not None
    (gradient,) = torch.autograd.grad(penalty.sum(), factor)
    assert not gradient[0, :, 2].any()
    assert torch.isfinite(gradient).all()


def test_a_network_of_one_layer_has_nothing_to_empty() -> None:
    assert lasso_of([((6, 3),)])[1].penalty() is None


def test_columns_are_emptied(digits: Dataset) -> None:
    weights = (0.0, 1e-3, 1e-2)
    pack = Pack.from_seeds([new_architecture([64, 32, 10], {})] * 3, [0] * 3)
    members = [Hyperparameters(lr=1e-2, settings={"training.lasso.weight": weight}) for weight in weights]
    result = train(pack, digits, members, epochs=10, batch_size=64)

    def small(factor: Tensor) -> int:
        norms = factor.norm(dim=0)
        return int((norms < norms.max() / 20).sum())

    emptied = [small(factor) for factor in pack.weights[0][0]]
    assert emptied[0] == 0
    assert emptied[2] > 5
    assert [curves["validation_accuracy"][-1] > 0.9 for curves in result.curves] == [True] * 3
