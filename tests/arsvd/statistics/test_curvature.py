"""The loss basis: the Fisher information against exact derivatives, and the projection that it gives."""

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

import arsvd
from arsvd.formats import FORMATS
from arsvd.sites.linear import LinearSite
from arsvd.statistics.observed import DAMPING, PROBES, TEMPERATURE, LabelDraws, damped, output_fisher
from arsvd.statistics.spectrum import Spectrum


def low_rank(spectrum: arsvd.Spectrum, layer: nn.Linear, rank: int) -> arsvd.LowRankLinear:
    found = FORMATS["low_rank"].layer(LinearSite(layer), spectrum, rank)
    assert isinstance(found, arsvd.LowRankLinear)
    return found


@pytest.fixture
def model() -> arsvd.MLP:
    torch.manual_seed(3)
    model = arsvd.MLP([6, 5, 7, 4]).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2.0)
    return model


@pytest.fixture
def inputs() -> Tensor:
    return torch.randn(3000, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(4)) + 0.5


def exact_fisher(model: nn.Module, name: str, inputs: Tensor) -> Tensor:
    """E_x[J^T (diag p - p p^T) J] / T^2 with J = d logits / d outputs of the layer, damped."""
    layers = list(model)
    position = layers.index(model.get_submodule(name))
    outputs = nn.Sequential(*layers[: position + 1])(inputs).detach()
    above = nn.Sequential(*layers[position + 1 :])

    def logits(z: Tensor) -> Tensor:
        return functional_call(above, dict(above.named_parameters()), (z[None],))[0]

    jacobians = vmap(jacrev(logits))(outputs).detach()
    p = F.softmax(vmap(logits)(outputs).detach() / TEMPERATURE, dim=-1)
    covariance = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    fisher = (jacobians.mT @ covariance @ jacobians).mean(0) / TEMPERATURE**2
    return fisher + DAMPING * fisher.diagonal().mean() * torch.eye(len(fisher))


@pytest.mark.parametrize("name", ["linear1", "linear2", "linear3"])
def test_the_fisher_is_that_of_exact_derivatives(model: arsvd.MLP, inputs: Tensor, name: str) -> None:
    estimate = damped(output_fisher(model, arsvd.find_sites(model), inputs.split(500))[name])
    exact = exact_fisher(model, name, inputs)
    assert ((estimate - exact).norm() / exact.norm()).item() < 0.05  # labels are drawn: 12,000 of them
    torch.testing.assert_close(estimate, estimate.T)
    assert torch.linalg.eigvalsh(estimate).min() > 0


def rise(spectrum: Spectrum, layer: nn.Linear, rank: int, x: Tensor, fisher: Tensor) -> float:
    """E[d^T F d] for the error d that a rank leaves in the layer's outputs."""
    with torch.no_grad():
        d = layer(x) - low_rank(spectrum, layer, rank)(x)
    return torch.einsum("bi,ij,bj->b", d, fisher, d).mean().item()


class TestProjection:
    def test_dropped_energy_is_the_mean_error_in_the_metric(self, model: arsvd.MLP, inputs: Tensor) -> None:
        reaching = {"linear1": inputs, "linear2": model[:3](inputs), "linear3": model[:5](inputs)}
        fishers = {n: damped(f) for n, f in output_fisher(model, arsvd.find_sites(model), [inputs]).items()}
        checked = 0
        for spectrum in arsvd.spectra(model, inputs, basis="loss", batch_size=4096):
            layer, fisher = model.get_submodule(spectrum.name), fishers[spectrum.name]
            for rank in range(1, spectrum.largest + 1):
                error = rise(spectrum, layer, rank, reaching[spectrum.name], fisher)
                assert error == pytest.approx(float(spectrum.energy[rank:].sum()), rel=1e-9, abs=1e-12)
                checked += 1
        assert checked == 5 + 5 + 4

    def test_no_other_basis_and_no_random_projection_is_better(
        self, model: arsvd.MLP, inputs: Tensor
    ) -> None:
        fisher = damped(output_fisher(model, arsvd.find_sites(model), [inputs])["linear1"])
        layer = model.linear1
        ours, outputs, weights = (
            arsvd.spectra(model, None if b == "weight" else inputs, basis=b, batch_size=4096).layers[0]
            for b in ("loss", "activation", "weight")
        )
        z = (inputs @ layer.weight.T).detach()
        centred = z - z.mean(0)
        for rank in range(1, 5):
            best = rise(ours, layer, rank, inputs, fisher)
            assert best < rise(outputs, layer, rank, inputs, fisher)
            assert best < rise(weights, layer, rank, inputs, fisher)
            for _ in range(30):
                left, right = torch.randn(2, 5, rank, dtype=torch.float64)
                oblique = left @ torch.linalg.inv(right.T @ left) @ right.T
                d = centred - centred @ oblique.T
                assert torch.einsum("bi,ij,bj->b", d, fisher, d).mean().item() > best

    def test_vectors_and_duals_are_biorthogonal(self, model: arsvd.MLP, inputs: Tensor) -> None:
        for spectrum in arsvd.spectra(model, inputs, basis="loss"):
            one = torch.eye(spectrum.largest, dtype=torch.float64)
            torch.testing.assert_close(spectrum.duals.T @ spectrum.vectors, one)

    def test_the_mean_output_is_kept_exactly(self, model: arsvd.MLP, inputs: Tensor) -> None:
        spectrum = arsvd.spectra(model, inputs, basis="loss").layers[0]
        for rank in range(1, 6):
            small = low_rank(spectrum, model.linear1, rank)
            torch.testing.assert_close(
                small(inputs).mean(0), model.linear1(inputs).mean(0), rtol=1e-10, atol=1e-10
            )

    def test_full_rank_gives_the_layer_back(self, model: arsvd.MLP, inputs: Tensor) -> None:
        for spectrum in arsvd.spectra(model, inputs, basis="loss"):
            layer = model.get_submodule(spectrum.name)
            full = low_rank(spectrum, layer, spectrum.largest)
            x = torch.randn(9, layer.in_features).double()
            torch.testing.assert_close(full(x), layer(x), rtol=1e-9, atol=1e-9)

    def test_energies_of_confident_models_are_not_lost_in_the_mean(self, inputs: Tensor) -> None:
        """Outputs of a large mean that hardly matter to the loss still have directions that matter more."""
        model = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 3))
        with torch.no_grad():
            model[0].weight.add_(100.0 * torch.eye(5, 6))
            model[1].weight.mul_(1e-6)
        spectrum = arsvd.spectra(model, inputs.float(), basis="loss").layers[0]
        assert int((spectrum.energy > 0).sum()) == 5


class TestDrawnLabels:
    def test_labels_are_drawn_as_often_as_the_model_predicts_them(self) -> None:
        p = torch.tensor([0.5, 0.0, 0.3, 0.2, 0.0])
        labels = LabelDraws(3).labels(p.expand(50_000, 5))
        assert labels.shape == (50_000, PROBES)
        shares = torch.bincount(labels.flatten(), minlength=5) / labels.numel()
        torch.testing.assert_close(shares, p, rtol=0, atol=0.005)  # 3 standard deviations are 0.0034
        assert not shares[[1, 4]].any()

    def test_neither_batches_nor_other_models_change_the_labels(self) -> None:
        p = torch.rand(3, 60, 5).softmax(-1)
        whole = LabelDraws(0).labels(p)
        for model in range(3):
            draws = LabelDraws(0)
            batches = [draws.labels(batch) for batch in p[model].split([1, 20, 39])]
            assert torch.equal(torch.cat(batches), whole[model])
        assert not torch.equal(LabelDraws(1).labels(p), whole)

    def test_batches_do_not_change_the_fisher(self, model: arsvd.MLP, inputs: Tensor) -> None:
        layers = arsvd.find_sites(model)
        whole = output_fisher(model, layers, [inputs])
        for name, fisher in output_fisher(model, layers, inputs.split(700)).items():
            torch.testing.assert_close(fisher, whole[name])

    def test_all_directions_of_a_layer_without_effect_on_the_loss_are_alike(self) -> None:
        fishers = torch.stack([torch.zeros(3, 3), 2 * torch.eye(3)]).double()
        one = torch.eye(3, dtype=torch.float64)
        torch.testing.assert_close(damped(fishers), torch.stack([one, (2 + 2 * DAMPING) * one]))


class TestModelsAndErrors:
    def test_the_model_is_untouched(self, model: arsvd.MLP, inputs: Tensor) -> None:
        model.linear2.requires_grad_(False)
        model.train().relu1.eval()
        before = copy.deepcopy(model.state_dict())
        arsvd.spectra(model, inputs, basis="loss")
        assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
        assert all(p.grad is None for p in model.parameters())
        assert (model.training, model.relu1.training) == (True, False)
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())

    def test_the_same_inputs_give_the_same_spectra(self, model: arsvd.MLP, inputs: Tensor) -> None:
        first, second = (arsvd.spectra(model, inputs, basis="loss") for _ in range(2))
        assert all(torch.equal(a.energy, b.energy) for a, b in zip(first, second, strict=True))

    @pytest.mark.parametrize(
        "freeze",
        [
            pytest.param(lambda model: model.requires_grad_(False), id="all"),
            pytest.param(lambda model: model.linear1.requires_grad_(False), id="the first layer"),
        ],
    )
    def test_frozen_parameters_change_nothing(
        self, model: arsvd.MLP, inputs: Tensor, freeze: Callable[[nn.Module], object]
    ) -> None:
        free = arsvd.spectra(model, inputs, basis="loss")
        freeze(model)
        for a, b in zip(free, arsvd.spectra(model, inputs, basis="loss"), strict=True):
            torch.testing.assert_close(a.energy, b.energy)

    @pytest.mark.parametrize(
        ("basis", "calibrated", "message"),
        [
            (
                "losses",
                True,
                r"unknown basis 'losses'; did you mean loss\?; there are weight, activation and loss",
            ),
            ("loss", False, "the loss basis needs calibration inputs"),
            ("activation", False, "the activation basis needs calibration inputs"),
            ("weight", True, "the weight basis takes no calibration inputs"),
        ],
    )
    def test_bases_that_do_not_fit(
        self, model: arsvd.MLP, inputs: Tensor, basis: str, calibrated: bool, message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            arsvd.spectra(model, inputs if calibrated else None, basis=basis)

    @pytest.mark.parametrize(
        ("head", "message"),
        [
            pytest.param(
                nn.Unflatten(1, (2, 2)), r"gives logits \(rows, classes\), got \(9, 2, 2\)", id="3 axes"
            ),
            pytest.param(nn.GRU(4, 2), r"gives logits \(rows, classes\), got tuple", id="a tuple"),
        ],
    )
    def test_a_model_other_than_a_classifier_is_refused(self, head: nn.Module, message: str) -> None:
        model = nn.Sequential(nn.Linear(6, 4), head)
        with pytest.raises(ValueError, match=message):
            arsvd.spectra(model, torch.randn(9, 6), basis="loss")
        assert model.training
        assert not model[0]._forward_hooks
