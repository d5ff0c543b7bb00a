"""The contract of a family of candidate points."""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn

from arsvd.candidates.base import Candidates, Context
from arsvd.compression import compress
from arsvd.evaluation.evaluator import Evaluator, OperatingPoint, evaluate
from arsvd.evaluation.lockstep import alone
from arsvd.planning import plan
from arsvd.rules.given import Ranks
from arsvd.statistics import BASES, best_basis
from arsvd.testing.networks import factorised, inputs, network

_ROWS = 60
_RULES, _THRESHOLDS, _MAX_DROP = ("energy",), (0.5, 0.9, 0.99), 0.05


def points_are_distinct(family: Candidates, net: str) -> None:
    """No choice of sizes is proposed twice in one basis."""
    _, _, planned, stepped, _ = _run(family, net)
    for points in (planned, stepped):
        # the dense model may be proposed in every basis
        seen = [(point.basis, point.ranks) for point in points if point.basis is not None]
        assert len(set(seen)) == len(seen)


def points_are_what_their_models_do(family: Candidates, net: str) -> None:
    """A point rebuilt from its sizes has the accuracy and the cost that were reported."""
    model, context, planned, stepped, _ = _run(family, net)
    for point in (*planned, *stepped):
        spectra = context.evaluators[point.basis or "weight"].spectra
        chosen = plan(spectra, Ranks(point.ranks))
        assert (chosen.params, chosen.macs) == (point.cost.numbers, point.cost.macs)
        _same(evaluate(compress(model, spectra, chosen), *_labelled(net)).loss, point.loss)


def models_of_its_own_do_what_their_points_say(family: Candidates, net: str) -> None:
    """A model that a family made stores and does what its point says."""
    made = _run(family, net)[4]
    assert bool(made) <= family.keeps_weights
    for point, small in made.items():
        assert sum(parameter.numel() for parameter in small.parameters()) == point.cost.numbers
        found = evaluate(small, *_labelled(net))
        assert found.accuracy == point.accuracy
        _same(found.loss, point.loss)


def the_model_is_left_as_it_was(family: Candidates, net: str) -> None:
    """A family changes nothing in the model that it examines."""
    model = _run(family, net)[0]
    assert all(
        torch.equal(one, other)
        for one, other in zip(model.parameters(), network(net).parameters(), strict=True)
    )


CHECKS: dict[str, Callable[[Candidates, str], None]] = {
    check.__name__: check
    for check in (
        points_are_distinct,
        points_are_what_their_models_do,
        models_of_its_own_do_what_their_points_say,
        the_model_is_left_as_it_was,
    )
}

Found = tuple[nn.Module, Context, list[OperatingPoint], list[OperatingPoint], dict[OperatingPoint, nn.Module]]


@cache
def _run(family: Candidates, net: str) -> Found:
    model = network(net)
    evaluators = {basis: Evaluator(model, factorised(model, basis), *_labelled(net)) for basis in BASES.names}
    context = Context(
        model, evaluators, BASES.names, best_basis(BASES.names), _RULES, _THRESHOLDS, _MAX_DROP, inputs
    )
    weight = evaluators["weight"]
    (dense,) = weight.points([plan(weight.spectra, Ranks(weight.spectra.dense))])
    planned = [
        point for basis in BASES.names for point in evaluators[basis].points(family.plans(context, basis))
    ]
    stepped = alone(family.steps(context, dense, planned))
    return model, context, planned, stepped, family.models(context, dense, [dense, *planned, *stepped])


def _labelled(net: str) -> tuple[Tensor, Tensor]:
    rows = inputs(_ROWS)
    with torch.no_grad():
        return rows, network(net)(rows).argmax(1)


def _same(one: float, other: float) -> None:
    assert abs(one - other) <= 1e-9 + 1e-6 * abs(other), (one, other)
