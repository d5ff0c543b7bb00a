"""Plans and compressed models: sizes, the break-even guard, and what is left alone."""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import arsvd
from arsvd import Energy, Fixed, Plan, Ranks, Spectra
from arsvd.formats.factors import factors
from arsvd.sites.conv2d import LowRankConv2d
from arsvd.sites.linear import LinearSite

RankTuple = tuple[int | None, ...]
CUDA = pytest.param(
    "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
)


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.fixture(params=["weight", "activation", "loss"])
def spectra(request: pytest.FixtureRequest, anything: nn.Module) -> Spectra:
    calibration = None if request.param == "weight" else torch.randn(80, 12)
    return arsvd.spectra(anything, calibration, basis=request.param)


class TestAnyModel:
    def test_the_plan_counts_what_the_compressed_model_stores(
        self, anything: nn.Module, spectra: Spectra, every_tuple: Callable[[Spectra], list[RankTuple]]
    ) -> None:
        tuples = every_tuple(spectra)
        for ranks in tuples[:: max(1, len(tuples) // 12)] + tuples[-1:]:
            plan = arsvd.plan(spectra, Ranks(ranks))
            assert plan.ranks == ranks
            assert plan.params == count(arsvd.compress(anything, spectra, plan))
            assert plan.dense_params == count(anything)
            assert plan.params <= plan.dense_params
            assert plan.ratio == pytest.approx(count(anything) / plan.params)
        assert plan.params == plan.dense_params

    def test_the_count_falls_and_every_layer_is_replaced(self, anything: nn.Module, spectra: Spectra) -> None:
        small = arsvd.compress(anything, spectra, arsvd.plan(spectra, Ranks((1,) * len(spectra))))
        assert count(small) < count(anything)
        assert not [m for m in small.modules() if type(m) in (nn.Linear, nn.Conv2d)]
        kinds = (arsvd.LowRankLinear, LowRankConv2d)
        replaced = [name for name, m in small.named_modules() if isinstance(m, kinds)]
        assert replaced == [s.name for s in spectra]
        assert set(dict(small.named_children())) == set(dict(anything.named_children()))

    def test_the_original_is_untouched(self, anything: nn.Module, spectra: Spectra) -> None:
        state = {name: value.clone() for name, value in anything.state_dict().items()}
        modules, parameters = list(anything.modules()), list(anything.parameters())
        small = arsvd.compress(anything, spectra, arsvd.plan(spectra, Ranks((1,) * len(spectra))))
        with torch.no_grad():
            for parameter in small.parameters():
                parameter.add_(1.0)
        assert all(a is b for a, b in zip(anything.modules(), modules, strict=True))
        assert all(a is b for a, b in zip(anything.parameters(), parameters, strict=True))
        assert all(torch.equal(value, state[name]) for name, value in anything.state_dict().items())

    def test_high_ranks_give_nearly_the_dense_outputs(self, anything: nn.Module, spectra: Spectra) -> None:
        x = torch.randn(20, 12)
        largest = tuple(max((r for r in range(s.largest) if s.worthwhile(r)), default=None) for s in spectra)
        errors = []
        for ranks in (tuple(r and 1 for r in largest), largest, spectra.dense):
            small = arsvd.compress(anything, spectra, arsvd.plan(spectra, Ranks(ranks)))
            with torch.no_grad():
                errors.append(float((small(x) - anything(x)).norm() / anything(x).norm()))
        assert errors[0] > errors[1] > errors[2]
        assert errors[1] < 0.4
        assert errors[2] < 1e-6

    def test_gradients_reach_the_factors(self, anything: nn.Module, spectra: Spectra) -> None:
        plan = arsvd.plan(spectra, Ranks((1,) * len(spectra)))
        small = arsvd.compress(anything, spectra, plan).train()
        small(torch.randn(20, 12)).square().sum().backward()
        grads = [m.left.grad for m in small.modules() if isinstance(m, arsvd.LowRankLinear)]
        assert all(grad is not None and bool(grad.any()) for grad in grads)


class TestTransformers:
    """In evaluation mode their fast path reads weights and biases and never calls the linear layers."""

    @pytest.mark.parametrize("calibrated", [False, True], ids=["weight", "activation"])
    @pytest.mark.parametrize("layers", [1, 2], ids=["a layer", "a stack"])
    def test_the_fast_path_gives_what_training_mode_gives(self, layers: int, calibrated: bool) -> None:
        layer = nn.TransformerEncoderLayer(12, 2, 20, dropout=0.0, batch_first=True)
        model = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False).eval()
        x = torch.randn(30, 5, 12)
        spectra = arsvd.spectra(model, x if calibrated else None)
        plan = arsvd.plan(spectra, Ranks((3, 2) * layers))
        small = arsvd.compress(model, spectra, plan)
        with torch.no_grad():
            fast, slow = small(x), small.train()(x)
        torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-5)
        assert count(small) == plan.params

    def test_attention_keeps_its_output_projection(self) -> None:
        model = nn.ModuleDict({"attention": nn.MultiheadAttention(12, 2), "head": nn.Linear(12, 6)})
        spectra = arsvd.spectra(model)
        small = arsvd.compress(model, spectra, arsvd.plan(spectra, Ranks((1,))))
        assert [s.name for s in spectra] == ["head"]
        assert type(small["attention"].out_proj) is type(model["attention"].out_proj)
        assert torch.equal(small["attention"].out_proj.weight, model["attention"].out_proj.weight)


class TestDtypesAndDevices:
    @pytest.mark.parametrize("device", ["cpu", CUDA])
    @pytest.mark.parametrize(
        ("dtype", "tolerance"),
        [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 0.05), (torch.float16, 0.01)],
        ids=str,
    )
    def test_outputs_follow_the_exact_factors(
        self, dtype: torch.dtype, tolerance: float, device: str
    ) -> None:
        model, x = arsvd.MLP([12, 14, 10, 4]).to(device, dtype), torch.randn(50, 12).to(device, dtype)
        for spectra in (arsvd.spectra(model), arsvd.spectra(model, x)):
            small = arsvd.compress(model, spectra, arsvd.plan(spectra, Ranks((4, 3, 2))))
            assert {(p.dtype, p.device.type) for p in small.parameters()} == {(dtype, device)}
            exact = x.double()
            for spectrum, layer in zip(spectra, arsvd.find_sites(model).values(), strict=True):
                rank = {"linear1": 4, "linear2": 3, "linear3": 2}[spectrum.name]
                left, right, bias = factors(spectrum, layer, rank, biased=True)
                exact = exact @ (left @ right).T + bias
                exact = exact if spectrum.name == "linear3" else exact.relu()
            error = (small(x).double() - exact).norm() / exact.norm()
            assert error.item() < tolerance

    def test_the_factors_of_a_component_have_equal_norms(self) -> None:
        layer = nn.Linear(30, 20)
        left, right, _ = factors(arsvd.spectra(layer).layers[0], LinearSite(layer), 20, biased=True)
        torch.testing.assert_close(left.norm(dim=0), right.norm(dim=1))

    def test_modes_and_frozen_parameters_carry_over(self) -> None:
        model = arsvd.MLP([12, 14, 4])
        model.linear1.requires_grad_(False).eval()
        spectra = arsvd.spectra(model)
        small = arsvd.compress(model, spectra, arsvd.plan(spectra, Ranks((2, 2))))
        assert [p.requires_grad for p in small.linear1.parameters()] == [False] * 3
        assert [p.requires_grad for p in small.linear2.parameters()] == [True] * 3
        assert (small.linear1.training, small.linear2.training) == (False, True)


class TestBreakEven:
    @pytest.mark.parametrize(
        ("shape", "bias", "calibrated", "last"),
        [
            pytest.param((30, 20), True, False, 11, id="600 numbers, 50 a rank"),
            pytest.param((20, 20), True, False, 9, id="equal size stays dense"),
            pytest.param((20, 20), False, True, 9, id="the new bias counts"),
            pytest.param((30, 20), False, True, 11, id="600 against 550 + 30"),
            pytest.param((60, 20), False, True, 14, id="14 * 80 + 60 against 1200"),
            pytest.param((1, 20), True, False, 0, id="one output"),
            pytest.param((20, 1), True, False, 0, id="one input"),
            pytest.param((2, 2), True, False, 0, id="2 x 2"),
        ],
    )
    def test_ranks_from_there_on_stay_dense(
        self, shape: tuple[int, int], bias: bool, calibrated: bool, last: int
    ) -> None:
        layer = nn.Linear(shape[1], shape[0], bias=bias)
        spectra = arsvd.spectra(layer, torch.randn(50, shape[1]) if calibrated else None)
        ranks = [arsvd.plan(spectra, Ranks((r,))).ranks[0] for r in range(1, min(shape) + 1)]
        assert ranks == [r if r <= last else None for r in range(1, min(shape) + 1)]

    @pytest.mark.parametrize("threshold", [0.95, 0.99, 0.999, 1.0])
    def test_high_thresholds_never_make_a_model_larger(self, threshold: float) -> None:
        spectra = arsvd.spectra(arsvd.MLP([40, 30, 20, 10]))
        for rule in (Energy(threshold), Fixed(threshold)):
            unguarded = spectra.cost(rule.ranks(spectra)).numbers
            plan = arsvd.plan(spectra, rule)
            assert plan.params <= plan.dense_params
            assert plan.params <= unguarded


@pytest.fixture
def planned() -> tuple[nn.Module, Spectra, Plan]:
    model = arsvd.MLP([12, 14, 4])
    spectra = arsvd.spectra(model)
    return model, spectra, arsvd.plan(spectra, Ranks((3, None)))


class TestPlans:
    def test_json(self, planned: tuple[nn.Module, Spectra, Plan]) -> None:
        plan = planned[2]
        again = Plan.from_dict(json.loads(json.dumps(plan.to_dict(), allow_nan=False)))
        assert again == plan
        assert plan.to_dict()["version"] == 1
        assert torch.equal(
            arsvd.compress(planned[0], planned[1], again).linear1.left,
            arsvd.compress(*planned).linear1.left,
        )

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            pytest.param({"version": 2}, "a plan of version 1 is needed, got version 2", id="version"),
            pytest.param(
                {"version": None}, "a plan of version 1 is needed, got version None", id="no version"
            ),
            pytest.param({"layers": None}, "these values are not a plan", id="no layers"),
            pytest.param(
                {"layers": [{"rank": 3}]},
                "not a plan: layers: .*missing in_features, missing",
                id="part of a layer",
            ),
            pytest.param({"colour": 1}, "not a plan: unknown colour", id="unknown"),
        ],
    )
    def test_values_other_than_a_plan_are_refused(
        self, planned: tuple[nn.Module, Spectra, Plan], change: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            Plan.from_dict({**planned[2].to_dict(), **change})
        with pytest.raises(ValueError, match=r"not a plan: missing basis, .*missing layers"):
            Plan.from_dict({"version": 1})

    def test_numbers_by_hand(self, planned: tuple[nn.Module, Spectra, Plan]) -> None:
        plan = planned[2]
        first, second = plan.layers
        assert (first.name, first.rank, first.params, first.macs) == ("linear1", 3, 3 * 26 + 14, 3 * 26)
        assert (second.name, second.rank, second.params, second.macs) == ("linear2", None, 60, 56)
        assert (plan.params, plan.macs) == (92 + 60, 78 + 56)
        assert (plan.dense_params, plan.dense_macs) == (14 * 13 + 60, 14 * 12 + 56)
        assert second.kept_energy == 1.0
        weight = planned[0].linear1.weight
        energy = torch.linalg.svdvals(weight.detach().double()).square()
        assert first.kept_energy == pytest.approx(float(energy[:3].sum() / energy.sum()))


class TestMismatches:
    def test_another_model(self, planned: tuple[nn.Module, Spectra, Plan]) -> None:
        _, spectra, plan = planned
        with pytest.raises(ValueError, match=r"'linear1' is of shape \(14, 12\), the layer is \(9, 12\)"):
            arsvd.compress(arsvd.MLP([12, 9, 4]), spectra, plan)
        with pytest.raises(ValueError, match=r"no Linear or Conv2d layer is named \['linear1', 'linear2'\]"):
            arsvd.compress(nn.Linear(12, 4), spectra, plan)

    def test_a_plan_of_other_spectra(self, planned: tuple[nn.Module, Spectra, Plan]) -> None:
        model, spectra, plan = planned
        less = arsvd.plan(arsvd.spectra(model, layers=["linear2"]), Ranks((1,)))
        with pytest.raises(ValueError, match=r"the plan is for layers \['linear2'\], the spectra for"):
            arsvd.compress(model, spectra, less)
        other = dataclasses.replace(plan, basis="activation")
        with pytest.raises(
            ValueError, match="plan is in the activation basis, the spectra are in the weight"
        ):
            arsvd.compress(model, spectra, other)


def test_a_layer_registered_twice_is_replaced_twice_and_counted_once() -> None:
    layer = nn.Linear(12, 12)
    model = nn.Sequential(layer, nn.Tanh(), layer)
    x: Tensor = torch.randn(40, 12)
    spectra = arsvd.spectra(model, x)
    plan = arsvd.plan(spectra, Ranks((3,)))
    small = arsvd.compress(model, spectra, plan)
    assert small[0] is small[2]
    assert plan.params == count(small) == 3 * 24 + 12
    assert plan.dense_params == 156
