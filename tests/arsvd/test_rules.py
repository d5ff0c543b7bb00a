"""One contract for every rank rule in both bases, and each rule against a plain loop."""

import itertools
import json
import math
from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import arsvd
from arsvd import Budget, Energy, Entropy, Fixed, Plan, RankRule, Ranks, Spectra

RankTuple = tuple[int | None, ...]
THRESHOLDS = [0.01, 0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999, 0.999999, 1.0]


def budgets(count: str) -> Callable[[Spectra], list[RankRule]]:
    def make(spectra: Spectra) -> list[RankRule]:
        size = getattr(spectra, count)
        low, high = size([s.worthwhile(1) for s in spectra]), size(spectra.dense)
        return [Budget(**{count: limit}) for limit in sorted({*range(low, high, 7), high, 10 * high})]

    return make


# Each makes rules that ask for more and more; the last one asks for everything.
GROWING: dict[str, Callable[[Spectra], list[RankRule]]] = {
    "energy": lambda _: [Energy(t) for t in THRESHOLDS],
    "entropy": lambda _: [Entropy(t) for t in THRESHOLDS],
    "fixed": lambda _: [Fixed(t) for t in THRESHOLDS],
    "budget of params": budgets("params"),
    "budget of macs": budgets("macs"),
}


def low_rank_net() -> nn.Module:
    """True ranks 2, 1 and 3 of 10, 8 and 4."""
    model = arsvd.MLP([12, 10, 8, 4]).double()
    with torch.no_grad():
        for layer, rank in zip(arsvd.linear_layers(model).values(), (2, 1, 3), strict=True):
            rows, columns = layer.weight.shape
            layer.weight.copy_(torch.randn(rows, rank).double() @ torch.randn(rank, columns).double())
            layer.weight.div_(layer.weight.norm())
    return model


def zeroed(model: nn.Module) -> nn.Module:
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    return model


NETS: dict[str, Callable[[], nn.Module]] = {
    "three layers": lambda: arsvd.MLP([12, 10, 8, 4]).double(),
    "rank-deficient": low_rank_net,
    "zero weights": lambda: zeroed(arsvd.MLP([12, 10, 8, 4]).double()),
    "one output, one input": lambda: arsvd.MLP([12, 1, 9]).double(),
    "without biases": lambda: nn.Sequential(
        nn.Linear(12, 10, bias=False), nn.ReLU(), nn.Linear(10, 4, bias=False)
    ).double(),
}


BASES = pytest.mark.parametrize("basis", ["weight", "activation", "loss"])
# entropy is defined in the weight basis only; a test of its own sees it refuse the others
CASES = [
    (rule, basis)
    for rule in GROWING
    for basis in ("weight", "activation", "loss")
    if rule != "entropy" or basis == "weight"
]


@pytest.fixture(params=CASES, ids=" - ".join)
def case(request: pytest.FixtureRequest) -> tuple[str, str]:
    return request.param


@pytest.fixture
def basis(case: tuple[str, str]) -> str:
    return case[1]


@pytest.fixture
def growing(case: tuple[str, str]) -> Callable[[Spectra], list[RankRule]]:
    return GROWING[case[0]]


@pytest.fixture(params=NETS)
def model(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    return NETS[request.param]()


@pytest.fixture
def inputs() -> torch.Tensor:
    return torch.randn(60, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + 0.5


@pytest.fixture
def spectra(model: nn.Module, basis: str, inputs: torch.Tensor) -> Spectra:
    return arsvd.spectra(model, None if basis == "weight" else inputs, basis=basis)


def dropped(spectra: Spectra, ranks: RankTuple) -> float:
    """The error that a budget minimises: shares of each layer's energy, or of all where units are one."""
    overall = sum(float(s.energy.sum()) for s in spectra) or 1.0
    shares = [float(s.energy.sum()) / overall if spectra.basis == "loss" else 1.0 for s in spectra]
    return sum(share * (1 - s.kept(r)) for share, s, r in zip(shares, spectra, ranks, strict=True))


class TestContract:
    def test_ranks_are_in_range(self, spectra: Spectra, growing: Callable[[Spectra], list[RankRule]]) -> None:
        for rule in growing(spectra):
            ranks = rule.ranks(spectra)
            assert len(ranks) == len(spectra)
            assert all(r is None or 1 <= r <= s.full_rank for s, r in zip(spectra, ranks, strict=True)), rule

    def test_more_is_never_worse(
        self, spectra: Spectra, growing: Callable[[Spectra], list[RankRule]]
    ) -> None:
        """Ranks never fall; a budget may move numbers between layers, so there only the totals hold."""
        plans = [arsvd.plan(spectra, rule) for rule in growing(spectra)]
        for less, more in itertools.pairwise(plans):
            assert less.params <= more.params
            assert dropped(spectra, less.ranks) >= dropped(spectra, more.ranks) - 1e-12
            if less.family != "budget":
                for s, a, b in zip(spectra, less.ranks, more.ranks, strict=True):
                    assert (a or s.full_rank) <= (b or s.full_rank)

    def test_asking_for_everything_gives_the_dense_outputs(
        self,
        model: nn.Module,
        spectra: Spectra,
        growing: Callable[[Spectra], list[RankRule]],
        inputs: torch.Tensor,
    ) -> None:
        plan = arsvd.plan(spectra, growing(spectra)[-1])
        assert [layer.kept_energy for layer in plan.layers] == [1.0] * len(spectra)
        small = arsvd.compress(model, spectra, plan)
        torch.testing.assert_close(small(inputs), model(inputs), rtol=1e-9, atol=1e-9)

    def test_the_same_spectra_give_the_same_ranks(
        self, model: nn.Module, spectra: Spectra, growing: Callable[[Spectra], list[RankRule]]
    ) -> None:
        once = [rule.ranks(spectra) for rule in growing(spectra)]
        assert once == [rule.ranks(spectra) for rule in growing(spectra)]

    def test_no_plan_is_larger_than_the_dense_model(
        self, spectra: Spectra, growing: Callable[[Spectra], list[RankRule]]
    ) -> None:
        for rule in growing(spectra):
            plan = arsvd.plan(spectra, rule)
            assert plan.params <= plan.dense_params
            for s, layer in zip(spectra, plan.layers, strict=True):
                assert layer.params <= s.params(None)
                assert layer.rank is None or layer.params < s.params(None)

    def test_a_plan_names_its_rule_and_survives_json(
        self, spectra: Spectra, growing: Callable[[Spectra], list[RankRule]]
    ) -> None:
        for rule in growing(spectra):
            plan = arsvd.plan(spectra, rule)
            assert (plan.family, plan.threshold, plan.basis) == (rule.family, rule.threshold, spectra.basis)
            assert Plan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan


class TestDegenerate:
    @BASES
    def test_everything_of_a_rank_deficient_layer_is_its_true_rank(
        self, basis: str, inputs: torch.Tensor
    ) -> None:
        model = low_rank_net()
        spectra = arsvd.spectra(model, None if basis == "weight" else inputs, basis=basis)
        assert Energy(1.0).ranks(spectra) == (2, 1, 3)
        if basis == "weight":
            assert Entropy(1.0).ranks(spectra) == (2, 1, 3)
        reachable = (2, 1, None)  # 3 * (8 + 4) numbers are more than 8 * 4
        assert arsvd.plan(spectra, Energy(1.0)).ranks == reachable
        assert Budget(params=10_000).ranks(spectra) == reachable

    @pytest.mark.parametrize("rule", [Energy(0.5), Energy(1.0), Entropy(0.5), Entropy(1.0)], ids=repr)
    def test_a_zero_layer_keeps_one_component(self, rule: RankRule) -> None:
        spectra = arsvd.spectra(NETS["zero weights"]())
        assert rule.ranks(spectra) == (1, 1, 1)

    @BASES
    def test_one_row_or_column_has_nothing_to_drop(self, basis: str, inputs: torch.Tensor) -> None:
        model = NETS["one output, one input"]()
        spectra = arsvd.spectra(model, None if basis == "weight" else inputs, basis=basis)
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
    return Spectra("weight", (spectrum,), 0)


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
