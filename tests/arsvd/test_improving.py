"""Sensitivity, local search and refitting: what they promise, against the plain way to compute it."""

import pytest
import torch
from torch import Tensor, nn

import arsvd
from arsvd import Budget, Energy, Ranks
from arsvd.candidates.local import local_search
from arsvd.candidates.sensitivity import sensitivity
from arsvd.evaluation.evaluator import Evaluator, evaluate
from arsvd.fronts import budget_grid
from arsvd.refit import refit

BASES = ("activation", "loss")


@pytest.fixture(params=BASES)
def spectra(request: pytest.FixtureRequest, trained: nn.Module, calibration: Tensor) -> arsvd.Spectra:
    return arsvd.spectra(trained, calibration, basis=request.param)


def test_local_search_never_loses_a_point_and_keeps_its_limit(
    trained: nn.Module, spectra: arsvd.Spectra, validation: tuple[Tensor, Tensor]
) -> None:
    evaluator = Evaluator(trained, spectra, *validation)
    start = evaluator.points([arsvd.plan(spectra, rule) for rule in budget_grid(spectra, 6)])
    found = local_search(evaluator, start, limit=40)
    assert 1 <= len(found) <= 40
    assert len({point.ranks for point in (*start, *found)}) == len(start) + len(found)
    joined = arsvd.pareto([*start, *found])
    for point in arsvd.pareto(start):
        assert any(p.params <= point.params and p.accuracy >= point.accuracy for p in joined)
    for point in found:
        small = arsvd.compress(trained, spectra, arsvd.plan(spectra, Ranks(point.ranks)))
        assert evaluate(small, *validation).accuracy == pytest.approx(
            point.accuracy, abs=1.5 / len(validation[1])
        )
    steps = [
        sum(a != b for a, b in zip(point.ranks, other.ranks, strict=True))
        for point in found[:4]
        for other in start
    ]
    assert min(steps) == 1  # one layer at a time


def test_local_search_leaves_points_below_the_floor_alone(
    trained: nn.Module, spectra: arsvd.Spectra, validation: tuple[Tensor, Tensor]
) -> None:
    evaluator = Evaluator(trained, spectra, *validation)
    start = evaluator.points([arsvd.plan(spectra, Ranks((1,) * len(spectra)))])
    assert local_search(evaluator, start, limit=20, floor=1.1) == []


def test_sensitivity_is_the_rise_of_the_loss_of_each_layer_alone(
    trained: nn.Module, spectra: arsvd.Spectra, validation: tuple[Tensor, Tensor]
) -> None:
    weights = sensitivity(Evaluator(trained, spectra, *validation))
    assert sum(weights) == pytest.approx(len(spectra))
    assert min(weights) > 0
    base = evaluate(trained, *validation).loss
    rises = []
    for layer, spectrum in enumerate(spectra):
        found = []
        for kept in (0.8, 0.9, 0.95):
            rank = Energy(kept).ranks(spectra)[layer]
            ranks = tuple(rank if n == layer else None for n in range(len(spectra)))
            chosen = arsvd.plan(spectra, Ranks(ranks))
            if chosen.ranks[layer] is None:
                continue
            loss = evaluate(arsvd.compress(trained, spectra, chosen), *validation).loss
            found.append(max(0.0, loss - base) / (1 - spectrum.kept(rank)))
        rises.append(sum(found) / len(found) if found else 0.0)
    order = sorted(range(len(rises)), key=lambda layer: rises[layer])
    assert sorted(range(len(weights)), key=lambda layer: weights[layer]) == order
    Budget(params=spectra.cost(spectra.dense).numbers, weights=weights).ranks(spectra)


@pytest.fixture
def chosen(spectra: arsvd.Spectra) -> arsvd.Plan:
    return arsvd.plan(spectra, Budget(params=spectra.cost(spectra.dense).numbers // 6))


def test_refitting_changes_no_shape_and_not_the_model(
    trained: nn.Module, spectra: arsvd.Spectra, chosen: arsvd.Plan, calibration: Tensor
) -> None:
    before = {name: tensor.clone() for name, tensor in trained.state_dict().items()}
    small = refit(trained, spectra, chosen, calibration)
    assert sum(p.numel() for p in small.parameters()) == chosen.params
    plain = arsvd.compress(trained, spectra, chosen)
    assert {n: t.shape for n, t in small.state_dict().items()} == {
        n: t.shape for n, t in plain.state_dict().items()
    }
    assert all(torch.equal(before[name], tensor) for name, tensor in trained.state_dict().items())
    assert not any(module._forward_hooks for module in small.modules())


def test_refitting_brings_the_outputs_closer_to_the_dense_ones(
    trained: nn.Module, spectra: arsvd.Spectra, chosen: arsvd.Plan, calibration: Tensor
) -> None:
    with torch.no_grad():
        dense = trained(calibration)
        errors = [
            float((model(calibration) - dense).square().mean())
            for model in (
                arsvd.compress(trained, spectra, chosen),
                refit(trained, spectra, chosen, calibration),
            )
        ]
    assert errors[1] < errors[0]


def test_refitting_an_uncompressed_model_changes_nothing(
    trained: nn.Module, spectra: arsvd.Spectra, calibration: Tensor
) -> None:
    same = refit(trained, spectra, arsvd.plan(spectra, Ranks(spectra.dense)), calibration)
    with torch.no_grad():
        assert torch.equal(same(calibration), trained(calibration))


def test_refitting_works_on_models_other_than_chains(validation: tuple[Tensor, Tensor]) -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.into, self.middle, self.out = nn.Linear(64, 32), nn.Linear(32, 32), nn.Linear(32, 10)

        def forward(self, x: Tensor) -> Tensor:
            h = torch.relu(self.into(x.flatten(1)))
            return self.out(h + torch.relu_(self.middle(h)))

    model, inputs = Residual(), validation[0]
    spectra = arsvd.spectra(model, inputs)
    small = refit(model, spectra, arsvd.plan(spectra, Ranks((4, 4, 4))), inputs)
    with torch.no_grad():
        assert torch.isfinite(small(inputs)).all()


def test_refitting_needs_two_rows(
    trained: nn.Module, spectra: arsvd.Spectra, chosen: arsvd.Plan, calibration: Tensor
) -> None:
    with pytest.raises(ValueError, match="at least 2 rows of inputs, got 1"):
        refit(trained, spectra, chosen, calibration[:1])
