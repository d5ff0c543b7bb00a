"""Spectra against a plain SVD and against running the layers."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import arsvd
from arsvd.formats import FORMATS
from arsvd.sites.linear import LinearSite
from arsvd.statistics.spectrum import Spectrum

SHAPES = [
    pytest.param(7, 12, id="wide"),
    pytest.param(12, 7, id="tall"),
    pytest.param(9, 9, id="square"),
    pytest.param(1, 8, id="one output"),
    pytest.param(8, 1, id="one input"),
    pytest.param(1, 1, id="one by one"),
]
CUDA = pytest.param(
    "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
)


def low_rank(spectrum: arsvd.Spectrum, layer: nn.Linear, rank: int) -> arsvd.LowRankLinear:
    found = FORMATS["low_rank"].layer(LinearSite(layer), spectrum, rank)
    assert isinstance(found, arsvd.LowRankLinear)
    return found


def layer_of(weight: Tensor, bias: bool = True) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias, dtype=weight.dtype)
    with torch.no_grad():
        layer.weight.copy_(weight)
    return layer


def only(model: nn.Module, calibration: Tensor | None = None) -> Spectrum:
    (spectrum,) = arsvd.spectra(model, calibration)
    return spectrum


def output_error(layer: nn.Linear, spectrum: Spectrum, rank: int, x: Tensor) -> float:
    """E |y - y_r|^2 over the rows of x, by running both layers."""
    with torch.no_grad():
        return float((layer(x) - low_rank(spectrum, layer, rank)(x)).square().sum(1).mean())


class TestWeightBasis:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
    @pytest.mark.parametrize(("rows", "columns"), SHAPES)
    def test_energies_are_squared_singular_values(self, rows: int, columns: int, dtype: torch.dtype) -> None:
        layer = layer_of(torch.randn(rows, columns).to(dtype))
        spectrum = only(layer)
        exact = torch.linalg.svdvals(layer.weight.detach().double())
        torch.testing.assert_close(spectrum.energy.sqrt(), exact, rtol=1e-7, atol=0)
        assert spectrum.energy.dtype == torch.float64
        assert (spectrum.out_features, spectrum.in_features) == (rows, columns)
        assert spectrum.largest == min(rows, columns)

    @pytest.mark.parametrize(("rows", "columns"), SHAPES)
    def test_dropped_energy_is_the_frobenius_error(self, rows: int, columns: int) -> None:
        layer = layer_of(torch.randn(rows, columns, dtype=torch.float64))
        spectrum = only(layer)
        for rank in range(1, spectrum.largest + 1):
            error = (layer.weight - low_rank(spectrum, layer, rank).weight).square().sum().item()
            assert error == pytest.approx(float(spectrum.energy[rank:].sum()), abs=1e-12)
            assert 1 - spectrum.kept(rank) == pytest.approx(error / float(spectrum.energy.sum()), abs=1e-12)

    def test_no_random_projection_is_better(self) -> None:
        layer = layer_of(torch.randn(8, 11, dtype=torch.float64))
        spectrum = only(layer)
        tried = 0
        for rank in range(1, 8):
            best = float(spectrum.energy[rank:].sum())
            for _ in range(50):
                u = torch.linalg.qr(torch.randn(8, rank, dtype=torch.float64)).Q
                assert (layer.weight - u @ u.T @ layer.weight).square().sum().item() > best
                tried += 1
        assert tried == 350

    def test_vectors_are_orthonormal(self) -> None:
        spectrum = only(layer_of(torch.randn(20, 13)))
        torch.testing.assert_close(spectrum.vectors.T @ spectrum.vectors, torch.eye(13, dtype=torch.float64))

    def test_the_bias_stays_as_it_is(self) -> None:
        layer = layer_of(torch.randn(8, 11))
        assert torch.equal(low_rank(only(layer), layer, 2).bias, layer.bias)
        bare = layer_of(torch.randn(8, 11), bias=False)
        assert low_rank(only(bare), bare, 2).bias is None


class TestActivationBasis:
    @pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
    @pytest.mark.parametrize(("rows", "columns"), SHAPES)
    def test_dropped_energy_is_the_mean_squared_output_error(
        self, rows: int, columns: int, bias: bool
    ) -> None:
        layer = layer_of(torch.randn(rows, columns, dtype=torch.float64), bias)
        x = torch.randn(40, columns, dtype=torch.float64) @ torch.randn(columns, columns).double() + 3
        spectrum = only(layer, x)
        for rank in range(1, spectrum.largest + 1):
            error = output_error(layer, spectrum, rank, x)
            assert error == pytest.approx(float(spectrum.energy[rank:].sum()), rel=1e-9, abs=1e-9)

    def test_inside_a_network_each_layer_sees_what_reaches_it(self) -> None:
        model = arsvd.MLP([9, 8, 7, 5]).double()
        x = torch.randn(60, 9, dtype=torch.float64)
        reaching = {"linear1": x, "linear2": model[:3](x), "linear3": model[:5](x)}
        checked = 0
        for spectrum in arsvd.spectra(model, x):
            layer, inputs = model.get_submodule(spectrum.name), reaching[spectrum.name]
            for rank in range(1, spectrum.largest + 1):
                error = output_error(layer, spectrum, rank, inputs)
                assert error == pytest.approx(float(spectrum.energy[rank:].sum()), abs=1e-12)
                checked += 1
        assert checked == 8 + 7 + 5

    def test_energies_are_the_variances_along_principal_components(self) -> None:
        layer, x = layer_of(torch.randn(6, 9, dtype=torch.float64)), torch.randn(50, 9, dtype=torch.float64)
        z = (x @ layer.weight.T).detach().numpy()
        covariance = np.cov(z.T, bias=True)
        np.testing.assert_allclose(
            only(layer, x).energy, np.linalg.eigvalsh(covariance)[::-1], rtol=1e-9, atol=1e-12
        )

    def test_no_random_projection_is_better(self) -> None:
        layer = layer_of(torch.randn(8, 11, dtype=torch.float64))
        x = torch.randn(60, 11, dtype=torch.float64) * torch.linspace(3, 0.1, 11) + 1
        spectrum, z = only(layer, x), (x @ layer.weight.T).detach()
        centred, tried = z - z.mean(0), 0
        for rank in range(1, 8):
            best = output_error(layer, spectrum, rank, x)
            for _ in range(50):
                u = torch.linalg.qr(torch.randn(8, rank, dtype=torch.float64)).Q
                assert float((centred - centred @ u @ u.T).square().sum(1).mean()) > best
                tried += 1
        assert tried == 350

    def test_it_beats_the_weight_basis_on_the_calibration_inputs(self) -> None:
        layer = layer_of(torch.randn(8, 11, dtype=torch.float64))
        x = torch.randn(60, 11, dtype=torch.float64) * torch.linspace(3, 0.1, 11) + 1
        ours, theirs = only(layer, x), only(layer)
        for rank in range(1, 8):
            assert output_error(layer, ours, rank, x) < output_error(layer, theirs, rank, x)

    @pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
    def test_the_mean_output_is_kept_exactly(self, bias: bool) -> None:
        layer = layer_of(torch.randn(6, 9, dtype=torch.float64), bias)
        x = torch.randn(50, 9, dtype=torch.float64) + 5
        spectrum = only(layer, x)
        for rank in range(1, 7):
            torch.testing.assert_close(
                low_rank(spectrum, layer, rank)(x).mean(0), layer(x).mean(0), rtol=1e-12, atol=1e-12
            )

    @pytest.mark.parametrize(
        "split",
        [
            pytest.param(lambda x: list(x.split(7)), id="a list of batches"),
            pytest.param(lambda x: iter(x.split([1, 30, 29])), id="a generator"),
            pytest.param(lambda x: [x[:1], x[1:]], id="a batch of one row"),
        ],
    )
    def test_batches_do_not_matter(self, split: Callable[[Tensor], object]) -> None:
        model, x = arsvd.MLP([9, 8, 5]).double(), torch.randn(60, 9, dtype=torch.float64)
        whole = arsvd.spectra(model, x)
        for batched in (arsvd.spectra(model, split(x)), arsvd.spectra(model, x, batch_size=13)):  # type: ignore[arg-type]
            for a, b in zip(whole, batched, strict=True):
                torch.testing.assert_close(a.energy, b.energy)
                torch.testing.assert_close(a.mean, b.mean)

    def test_further_dimensions_are_further_rows(self) -> None:
        layer, x = layer_of(torch.randn(6, 9, dtype=torch.float64)), torch.randn(4, 5, 9).double()
        torch.testing.assert_close(only(layer, x).energy, only(layer, x.reshape(20, 9)).energy)

    def test_dropout_is_off_and_no_gradients_are_kept(self) -> None:
        model, x = arsvd.MLP([9, 8, 5], dropout=0.5), torch.randn(60, 9)
        first, second = arsvd.spectra(model, x), arsvd.spectra(model, x)
        assert all(torch.equal(a.energy, b.energy) for a, b in zip(first, second, strict=True))
        assert not any(s.energy.requires_grad or s.vectors.requires_grad for s in first)


class TestDegenerateLayers:
    @pytest.mark.parametrize("mean", [0.0, 1.0, 100.0])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
    @pytest.mark.parametrize("shape", [(20, 30), (30, 20), (10, 10), (4, 200), (200, 4), (64, 300)], ids=str)
    def test_the_true_rank_shows_in_both_bases(
        self, shape: tuple[int, int], dtype: torch.dtype, mean: float
    ) -> None:
        rows, columns = shape
        weight = torch.linalg.qr(torch.randn(rows, 3)).Q @ torch.linalg.qr(torch.randn(columns, 3)).Q.T
        layer = layer_of(weight.to(dtype))
        x = (torch.randn(400, columns) + mean).to(dtype)
        for spectrum in (only(layer), only(layer, x)):
            assert int((spectrum.energy > 0).sum()) == 3, spectrum.basis

    def test_a_zero_matrix_has_no_energy(self) -> None:
        layer, x = layer_of(torch.zeros(5, 8)), torch.randn(20, 8)
        for spectrum in (only(layer), only(layer, x)):
            assert not spectrum.energy.any()
            assert spectrum.kept(1) == 1.0
            assert torch.equal(low_rank(spectrum, layer, 1)(x), layer(x))

    def test_constant_outputs_have_no_energy(self) -> None:
        layer, x = layer_of(torch.randn(5, 8)), torch.randn(1, 8).expand(33, 8) * 100
        spectrum = only(layer, x)
        assert not spectrum.energy.any()
        torch.testing.assert_close(low_rank(spectrum, layer, 1)(x), layer(x), rtol=1e-5, atol=1e-4)


class TestSpectra:
    def test_counts_parameters_inside_and_outside(self) -> None:
        model = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 4, bias=False))
        both, one = arsvd.spectra(model), arsvd.spectra(model, layers=["2"])
        assert (len(both), both.other.numbers, both.dense) == (2, 10, (None, None))
        assert (len(one), one.other.numbers) == (1, 45)
        assert both.cost(both.dense).numbers == one.cost(one.dense).numbers == 65
        assert both.cost(both.dense).macs == 50
        assert both.cost((2, 1)).numbers == 10 + (2 * 11 + 5) + 1 * 9
        assert both.cost((2, 1)).macs == 2 * 11 + 1 * 9

    def test_leaves_the_model_alone(self) -> None:
        model, x = arsvd.MLP([9, 8, 5], dropout=0.2), torch.randn(60, 9)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        arsvd.spectra(model, x)
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert all(p.grad is None and p.requires_grad for p in model.parameters())

    @pytest.mark.parametrize("device", ["cpu", CUDA])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
    def test_any_dtype_and_device(self, dtype: torch.dtype, device: str) -> None:
        model = arsvd.MLP([9, 8, 5]).to(device, dtype)
        x = torch.randn(60, 9).to(device, dtype)
        for spectra in (arsvd.spectra(model), arsvd.spectra(model, x)):
            for spectrum in spectra:
                assert spectrum.energy.device.type == "cpu"
                assert spectrum.vectors.device.type == device
                assert bool((spectrum.energy.diff() <= 0).all())


class Refusing(nn.Module):
    """Raises in its forward pass, after its first layer ran."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.first, self.error = nn.Linear(4, 4), error

    def forward(self, x: Tensor) -> Tensor:
        self.first(x)
        raise self.error


class Idle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used, self.idle = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.used(x)


def broken_batches() -> Iterator[Tensor]:
    yield torch.randn(5, 4)
    raise OSError("the disk is gone")


BAD_CALIBRATION = {
    "one row": (torch.randn(1, 4), r"at least 2 rows of inputs, got a tensor of shape \(1, 4\)"),
    "no rows": (torch.randn(0, 4), r"at least 2 rows of inputs, got a tensor of shape \(0, 4\)"),
    "a number": (torch.tensor(1.0), r"at least 2 rows of inputs, got a tensor of shape \(\)"),
    "one batch of one row": ([torch.randn(1, 4)], "layer 'linear1' saw 1 calibration rows"),
    "no batches": ([], "calibration holds no batches; an iterator that was walked before is empty"),
    "wrong width": (torch.randn(9, 5), r"does not take calibration inputs of shape \(9, 5\)"),
    "integers": (torch.ones(9, 4, dtype=torch.int64), r"inputs of shape \(9, 4\) and torch\.int64"),
    "nan": (torch.full((9, 4), torch.nan), "layer 'linear1' gives outputs that are not finite"),
    "infinite": (torch.full((9, 4), torch.inf), "layer 'linear1' gives outputs that are not finite"),
    "with labels": ([[torch.randn(9, 4), torch.zeros(9)]], r"must be tensors of inputs, got a list; .* pass"),
    "a loader that fails": (broken_batches(), "the disk is gone"),
}


class TestBadInput:
    @pytest.mark.parametrize("name", BAD_CALIBRATION)
    def test_calibration(self, name: str) -> None:
        calibration, message = BAD_CALIBRATION[name]
        error = {"with labels": TypeError, "a loader that fails": OSError}.get(name, ValueError)
        model = arsvd.MLP([4, 5, 3], dropout=0.1)
        model.dropout1.eval()
        with pytest.raises(error, match=message):
            arsvd.spectra(model, calibration)  # type: ignore[arg-type]
        assert not any(module._forward_pre_hooks for module in model.modules())
        assert {name for name, module in model.named_modules() if not module.training} == {"dropout1"}

    @pytest.mark.parametrize("error", [RuntimeError("shapes"), KeyError("mask")], ids=["wrapped", "foreign"])
    def test_an_error_of_the_model(self, error: Exception) -> None:
        model = Refusing(error)
        with pytest.raises(
            ValueError if isinstance(error, RuntimeError) else KeyError, match=str(error.args[0])
        ):
            arsvd.spectra(model, torch.randn(9, 4))
        assert model.training
        assert not model.first._forward_pre_hooks

    def test_a_layer_that_never_runs(self) -> None:
        spectra = arsvd.spectra(Idle(), torch.randn(9, 4))
        assert [spectrum.name for spectrum in spectra] == ["used"]
        assert spectra.coverage is not None
        assert spectra.coverage.skipped == (("idle", "it never ran on the calibration inputs"),)
        with pytest.raises(
            ValueError, match=r"layers \['idle'\] never ran .* pass layers=\[\.\.\.\] without"
        ):
            arsvd.spectra(Idle(), torch.randn(9, 4), layers=["used", "idle"])
        model = Idle()
        model.used = nn.Identity()
        with pytest.raises(ValueError, match=r"no layer ran on the calibration inputs; .*\['idle'\]"):
            arsvd.spectra(model, torch.randn(9, 4))

    @pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
    @pytest.mark.parametrize("calibration", [None, torch.randn(9, 4)], ids=["weight", "activation"])
    def test_weights_that_are_not_finite(self, value: float, calibration: Tensor | None) -> None:
        model = arsvd.MLP([4, 5, 3])
        with torch.no_grad():
            model.linear2.weight[1, 2] = value
        with pytest.raises(ValueError, match="layer 'linear2' holds NaN or infinite weights"):
            arsvd.spectra(model, calibration)

    def test_no_linear_layer(self) -> None:
        with pytest.raises(ValueError, match=r"Sequential holds no Linear or Conv2d layer"):
            arsvd.spectra(nn.Sequential(nn.ReLU()))


class TestModes:
    @pytest.mark.parametrize("training", [True, False])
    def test_every_part_keeps_its_own_mode(self, training: bool) -> None:
        model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)).train(training)
        model[1].train(not training)  # such as a frozen batch norm
        before = [module.training for module in model.modules()]
        arsvd.spectra(model, torch.randn(9, 4))
        arsvd.evaluate(model, torch.randn(9, 4), torch.zeros(9, dtype=torch.int64))
        assert [module.training for module in model.modules()] == before
        assert torch.equal(model[1].running_mean, torch.zeros(4))
