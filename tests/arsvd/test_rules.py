"""One contract for every rank rule in both bases, and each rule against a plain loop."""

import itertools
import math
from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import arsvd
from arsvd import Budget, Energy, Entropy, Fixed, RankRule, Ranks, Spectra
from arsvd.cost import Cost
from arsvd.rules import RULES
from arsvd.testing.networks import NETWORKS, factorised, network
from arsvd.testing.rules import CHECKS

RankTuple = tuple[int | None, ...]
BASES = pytest.mark.parametrize("basis", ["weight", "activation", "loss"])


class TestContract:
    @pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
    @pytest.mark.parametrize("net", NETWORKS)
    @pytest.mark.parametrize(
        ("name", "basis"), [(name, basis) for name, rule in RULES.items() for basis in rule.bases]
    )
    def test_every_rule(self, check: Callable[..., None], net: str, name: str, basis: str) -> None:
        check(RULES[name], net, basis)

    @BASES
    @pytest.mark.parametrize("net", NETWORKS)
    @pytest.mark.parametrize("rule", [Energy, Entropy, Fixed])
    def test_a_higher_threshold_lowers_no_rank(self, rule: type[Energy], net: str, basis: str) -> None:
        """A budget may move numbers between layers; a threshold may not."""
        spectra = factorised(network(net), basis if basis in rule.bases else rule.bases[0])
        for less, more in itertools.pairwise(rule.examples(spectra)):
            for a, b in zip(less.ranks(spectra), more.ranks(spectra), strict=True):
                assert b is None or (a is not None and a <= b)

    @BASES
    # with positions the larger of two models in multiplications may be the smaller one in numbers
    @pytest.mark.parametrize("net", [name for name in NETWORKS if name != "convolutions"])
    def test_budgets_of_multiplications_keep_the_promises_of_parameters(self, net: str, basis: str) -> None:
        class Macs(Budget):
            @classmethod
            def examples(cls, spectra: Spectra) -> Sequence[RankRule]:
                low, high = (
                    spectra.cost([s.worthwhile(1) for s in spectra]).macs,
                    spectra.cost(spectra.dense).macs,
                )
                return [Budget(macs=limit) for limit in sorted({*range(low, high, 7), high, 10 * high})]

        for check in CHECKS.values():
            check(Macs, net, basis)


class TestDegenerate:
    @BASES
    def test_everything_of_a_rank_deficient_layer_is_its_true_rank(self, basis: str) -> None:
        model = network("rank-deficient")
        spectra = factorised(model, basis)
        assert Energy(1.0).ranks(spectra) == (2, 1, 3)
        if basis == "weight":
            assert Entropy(1.0).ranks(spectra) == (2, 1, 3)
        reachable = (2, 1, None)  # 3 * (8 + 4) numbers are more than 8 * 4
        assert arsvd.plan(spectra, Energy(1.0)).ranks == reachable
        assert Budget(params=10_000).ranks(spectra) == reachable

    @pytest.mark.parametrize("rule", [Energy(0.5), Energy(1.0), Entropy(0.5), Entropy(1.0)], ids=repr)
    def test_a_zero_layer_keeps_one_component(self, rule: RankRule) -> None:
        spectra = arsvd.spectra(network("zero weights"))
        assert rule.ranks(spectra) == (1, 1, 1)

    @BASES
    def test_one_row_or_column_has_nothing_to_drop(self, basis: str) -> None:
        model = network("one output, one input")
        spectra = factorised(model, basis)
        assert Energy(0.5).ranks(spectra) == Fixed(0.5).ranks(spectra) == (1, 1)
        assert arsvd.plan(spectra, Energy(0.5)).ranks == Budget(params=10_000).ranks(spectra) == (None, None)


energies = st.lists(st.floats(0, 1e6), min_size=1, max_size=12).map(lambda e: sorted(e, reverse=True))


def smallest_by_loop(parts: Sequence[float], threshold: float) -> int:
    """The smallest r with sum(parts[:r]) >= threshold * sum(parts), at least 1."""
    total = running = 0.0
    for part in parts:
        total += part
    for rank, part in enumerate(parts, start=1):
        running += part
        if running >= threshold * total:
            return rank
    raise AssertionError("the last partial sum is the total")


class TestEnergyAndEntropy:
    @given(energies, st.floats(0, 1, exclude_min=True))
    @settings(deadline=None, max_examples=300, derandomize=True)
    def test_energy_equals_a_loop(self, energy: list[float], threshold: float) -> None:
        assert Energy(threshold).ranks(made_of(energy)) == (smallest_by_loop(energy, threshold),)

    @given(energies, st.floats(0, 1, exclude_min=True))
    @settings(deadline=None, max_examples=300, derandomize=True)
    def test_entropy_equals_a_loop(self, energy: list[float], threshold: float) -> None:
        sigma = [math.sqrt(e) for e in energy]
        shares = [s / sum(sigma) if sum(sigma) else 0.0 for s in sigma]
        parts = [-p * math.log(p) if p else 0.0 for p in shares]
        (rank,) = Entropy(threshold).ranks(made_of(energy))
        # the loop's logarithms may differ from torch's in the last digit, and so may ranks at a threshold
        near = {smallest_by_loop(parts, min(1.0, threshold * (1 + d))) for d in (-1e-12, 0.0, 1e-12)}
        assert rank in near or sum(parts[:rank]) == pytest.approx(threshold * sum(parts), rel=1e-9)

    def test_by_hand(self) -> None:
        spectra = made_of([9.0, 1.0, 0.0])  # sigma 3, 1, 0: shares 3/4, 1/4; entropy parts 0.2158, 0.3466
        assert [Energy(t).ranks(spectra)[0] for t in (0.5, 0.9, 0.91, 1.0)] == [1, 1, 2, 2]
        assert [Entropy(t).ranks(spectra)[0] for t in (0.38, 0.39, 1.0)] == [1, 2, 2]

    def test_entropy_refuses_the_other_bases(self) -> None:
        for basis in ("activation", "loss"):
            spectra = arsvd.spectra(arsvd.MLP([4, 3]), torch.randn(9, 4), basis=basis)
            with pytest.raises(ValueError, match=f"needs spectra in the weight basis, got the {basis} basis"):
                Entropy(0.5).ranks(spectra)


def made_of(energy: Sequence[float]) -> Spectra:
    k = len(energy)
    spectrum = arsvd.Spectrum(
        "layer", "weight", k, k, True, torch.tensor(energy, dtype=torch.float64), torch.eye(k), torch.zeros(k)
    )
    return Spectra("weight", (spectrum,), Cost.of(0, 0))


class TestFixedAndRanks:
    def test_fixed_takes_one_fraction_of_each_full_rank(self, made_up: Callable[..., Spectra]) -> None:
        spectra = made_up([(20, 30), (8, 5)], [[1.0] * 20, [1.0] * 5])
        chosen = [Fixed(f).ranks(spectra) for f in (0.001, 0.1, 0.3, 0.5, 1.0)]
        assert chosen == [(1, 1), (2, 1), (6, 2), (10, 2), (20, 5)]

    @pytest.mark.parametrize("rule", [Energy, Entropy, Fixed])
    @pytest.mark.parametrize("threshold", [0.0, -0.5, 1.0001, float("nan"), float("inf")])
    def test_thresholds_outside_are_refused(self, rule: type[Energy], threshold: float) -> None:
        message = rf"the threshold of the {rule.family} rule must be in \(0, 1\], got {threshold}"
        with pytest.raises(ValueError, match=message):
            rule(threshold)

    @pytest.mark.parametrize(
        ("chosen", "message"),
        [
            pytest.param((1,), "1 ranks were given for 2 layers", id="too few"),
            pytest.param((0, 1), "layer 'layer0' takes ranks from 1 to 4, got 0", id="zero"),
            pytest.param((None, 6), "layer 'layer1' takes ranks from 1 to 5, got 6", id="above full rank"),
        ],
    )
    def test_given_ranks_are_checked(
        self, made_up: Callable[..., Spectra], chosen: RankTuple, message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            Ranks(chosen).ranks(made_up([(4, 9), (8, 5)], [[1.0] * 4, [1.0] * 5]))
