"""The contract of a rank rule."""

import itertools
import json
from collections.abc import Callable, Sequence

import torch

from arsvd.compression import compress
from arsvd.planning import Plan, plan
from arsvd.rules.base import RankRule, RegisteredRule
from arsvd.statistics import BASES
from arsvd.statistics.spectrum import Spectra
from arsvd.testing.networks import factorised, inputs, network

Rule = type[RegisteredRule]


def ranks_are_in_range(rule: Rule, net: str, basis: str) -> None:
    """Every rank lies in [1, full rank], one per layer."""
    spectra, rules = _made(rule, net, basis)
    for one in rules:
        ranks = one.ranks(spectra)
        assert len(ranks) == len(spectra)
        assert all(r is None or 1 <= r <= s.largest for s, r in zip(spectra, ranks, strict=True)), one


def more_is_never_worse(rule: Rule, net: str, basis: str) -> None:
    """Rules that ask for more give models that are never smaller and errors that are never larger."""
    spectra, rules = _made(rule, net, basis)
    plans = [plan(spectra, one) for one in rules]
    for less, more in itertools.pairwise(plans):
        assert less.params <= more.params
        assert dropped(spectra, less.ranks) >= dropped(spectra, more.ranks) - 1e-12


def everything_gives_the_dense_outputs(rule: Rule, net: str, basis: str) -> None:
    """A rule that asks for everything leaves the model's outputs unchanged."""
    spectra, rules = _made(rule, net, basis)
    chosen = plan(spectra, rules[-1])
    assert [layer.kept_energy for layer in chosen.layers] == [1.0] * len(spectra)
    model = network(net)
    small = compress(model, spectra, chosen)
    torch.testing.assert_close(small(inputs()), model(inputs()), rtol=1e-9, atol=1e-9)


def the_same_spectra_give_the_same_ranks(rule: Rule, net: str, basis: str) -> None:
    """A rule has no state and uses no random numbers."""
    spectra, rules = _made(rule, net, basis)
    assert [one.ranks(spectra) for one in rules] == [one.ranks(spectra) for one in rule.examples(spectra)]


def no_plan_is_larger_than_the_dense_model(rule: Rule, net: str, basis: str) -> None:
    """A layer that would grow stays dense."""
    spectra, rules = _made(rule, net, basis)
    for one in rules:
        chosen = plan(spectra, one)
        assert chosen.params <= chosen.dense_params
        for s, layer in zip(spectra, chosen.layers, strict=True):
            assert layer.params <= s.cost(None).numbers
            assert layer.rank is None or layer.params < s.cost(None).numbers


def a_plan_names_its_rule_and_survives_json(rule: Rule, net: str, basis: str) -> None:
    """A plan says what it came from, and can be stored."""
    spectra, rules = _made(rule, net, basis)
    for one in rules:
        chosen = plan(spectra, one)
        assert (chosen.family, chosen.threshold, chosen.basis) == (one.family, one.threshold, spectra.basis)
        assert Plan.from_dict(json.loads(json.dumps(chosen.to_dict()))) == chosen


def other_bases_are_refused(rule: Rule, net: str, basis: str) -> None:
    """A rule refuses a basis to which it does not apply."""
    for other in set(BASES.names) - set(rule.bases):
        spectra = factorised(network(net), other)
        for one in rule.examples(spectra):
            try:
                one.ranks(spectra)
            except ValueError as error:
                assert other in str(error)
            else:
                raise AssertionError(f"{one} takes the {other} basis")


def a_swept_rule_has_one_rule_a_threshold_or_one_alone(rule: Rule, net: str, basis: str) -> None:
    """Every rule that a sweep file may name can be made from its thresholds."""
    if rule.searched:
        spectra, thresholds = factorised(network(net), basis), (0.5, 0.9)
        made = rule.at(thresholds)
        assert len(made) in (1, len(thresholds))
        assert [one.threshold for one in made] in ([None], list(thresholds))
        assert all(len(one.ranks(spectra)) == len(spectra) for one in made)


CHECKS: dict[str, Callable[[Rule, str, str], None]] = {
    check.__name__: check
    for check in (
        ranks_are_in_range,
        more_is_never_worse,
        everything_gives_the_dense_outputs,
        the_same_spectra_give_the_same_ranks,
        no_plan_is_larger_than_the_dense_model,
        a_plan_names_its_rule_and_survives_json,
        other_bases_are_refused,
        a_swept_rule_has_one_rule_a_threshold_or_one_alone,
    )
}


def dropped(spectra: Spectra, ranks: Sequence[int | None]) -> float:
    """Return the lost energy: each layer's shares summed, or weighted where layers share a unit."""
    overall = sum(float(s.energy.sum()) for s in spectra) or 1.0
    shares = [float(s.energy.sum()) / overall if spectra.comparable else 1.0 for s in spectra]
    return sum(share * (1 - s.kept(r)) for share, s, r in zip(shares, spectra, ranks, strict=True))


def _made(rule: Rule, net: str, basis: str) -> tuple[Spectra, Sequence[RankRule]]:
    spectra = factorised(network(net), basis)
    return spectra, rule.examples(spectra)
