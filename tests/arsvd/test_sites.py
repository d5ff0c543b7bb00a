"""Every kind of site keeps the contract; what is no site stays dense, and is named."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

import arsvd
from arsvd.refit import refit
from arsvd.sites import SITES
from arsvd.testing.sites import CHECKS

CUDA = pytest.param(
    "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
)
EXAMPLES = [(name, number) for name, site in SITES.items() for number in range(len(site.examples()))]


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
@pytest.mark.parametrize(("name", "number"), EXAMPLES)
def test_every_site(name: str, number: int, check: Callable[..., None]) -> None:
    check(SITES[name], number)


class TestConvolutions:
    def test_the_singular_values_of_the_kernel_are_its_energies(self) -> None:
        layer = nn.Conv2d(3, 8, 3).double()
        (spectrum,) = arsvd.spectra(layer)
        expected = torch.linalg.svdvals(layer.weight.detach().flatten(1)).square()
        torch.testing.assert_close(spectrum.energy, expected)

    def test_groups_keep_their_own_components(self) -> None:
        layer = nn.Conv2d(4, 12, 3, groups=2).double()
        (spectrum,) = arsvd.spectra(layer)
        parts = layer.weight.detach().flatten(1).unflatten(0, (2, 6))
        torch.testing.assert_close(spectrum.energy, torch.linalg.svdvals(parts).square().sum(0))
        assert spectrum.largest == 6

    @pytest.mark.parametrize("basis", ["activation", "loss"])
    def test_dropped_energy_is_the_error_of_the_outputs(self, basis: str) -> None:
        """Over all positions of the calibration inputs, in the activation basis."""
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.Flatten(), nn.Linear(8 * 9, 4)).double()
        x = torch.randn(40, 3, 8, 8, dtype=torch.float64) + 0.3
        spectra = arsvd.spectra(model, x, basis=basis)
        for rank in range(1, 6):
            small = arsvd.compress(model, spectra, arsvd.plan(spectra, arsvd.Ranks((rank, None))))
            error = (small[0](x) - model[0](x)).movedim(1, -1).flatten(0, -2)
            torch.testing.assert_close(error.mean(0), torch.zeros(8).double(), rtol=0, atol=1e-12)
            if basis == "activation":
                dropped = float(spectra.layers[0].energy[rank:].sum())
                assert float(error.square().sum(-1).mean()) == pytest.approx(dropped, rel=1e-9)

    def test_multiplications_count_positions(self) -> None:
        model = nn.Sequential(nn.Conv2d(2, 8, 3, padding=1), nn.Flatten(), nn.Linear(8 * 25, 3))
        spectra = arsvd.spectra(model, torch.randn(6, 2, 5, 5))
        dense = spectra.cost(spectra.dense)
        assert dense.macs == 25 * 8 * 18 + 600
        assert spectra.cost((2, None)).macs == 25 * 2 * (8 + 18) + 600
        assert spectra.coverage is not None
        assert spectra.coverage.macs == dense.macs

    def test_buffers_count_as_what_they_store(self) -> None:
        model = nn.Sequential(nn.Conv2d(2, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
        numbers = sum(parameter.numel() for parameter in model.parameters())
        spectra = arsvd.spectra(model)
        assert spectra.cost(spectra.dense).numbers == numbers
        assert spectra.cost(spectra.dense).bits == 32 * numbers + 2 * 8 * 32 + 64  # and the count of batches

    def test_what_is_no_site_stays_dense_and_is_named(self) -> None:
        shared = nn.Conv2d(3, 3, 1)
        other = nn.Conv2d(3, 3, 1)
        other.weight = shared.weight
        model = nn.ModuleDict(
            {
                "transposed": nn.ConvTranspose2d(3, 3, 2),
                "one": nn.Conv1d(3, 3, 2),
                "computed": parametrizations.weight_norm(nn.Conv2d(3, 3, 2)),
                "shared": shared,
                "other": other,
                "plain": nn.Conv2d(3, 8, 3),
            }
        )
        spectra = arsvd.spectra(model)
        assert [s.name for s in spectra] == ["plain"]
        assert spectra.coverage is not None
        reasons = dict(spectra.coverage.skipped)
        assert list(reasons) == ["transposed", "one", "computed", "shared", "other"]
        assert reasons["transposed"] == "a ConvTranspose2d, which no kind of site covers"
        assert reasons["one"] == "a Conv1d, which no kind of site covers"
        assert "parametrisation" in reasons["computed"]
        assert reasons["shared"] == "its weight is tied to other"

    def test_one_that_never_ran_stays_dense(self) -> None:
        class Idle(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.idle, self.used = nn.Conv2d(3, 8, 3), nn.Conv2d(3, 8, 3)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                found: torch.Tensor = self.used(x)
                return found

        spectra = arsvd.spectra(Idle(), torch.randn(4, 3, 6, 6))
        assert spectra.coverage is not None
        assert spectra.coverage.skipped == (("idle", "it never ran on the calibration inputs"),)

    @pytest.mark.parametrize("device", ["cpu", CUDA])
    def test_front_and_refit_of_a_convolutional_network(self, device: str) -> None:
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(1, 12, 3),
            nn.ReLU(),
            nn.Conv2d(12, 16, 3),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(16 * 16, 5),
        ).to(device)
        x = torch.randn(300, 1, 8, 8).to(device)
        with torch.no_grad():
            y = model(x).argmax(1)
        spectra = arsvd.spectra(model, x)
        points = arsvd.front(model, spectra, (x, y))
        assert points[-1].accuracy == 1.0
        assert points[0].cost.numbers < points[-1].cost.numbers / 4
        for point in points[:: max(1, len(points) // 5)]:
            plan = arsvd.plan(spectra, arsvd.Ranks(point.ranks))
            small = arsvd.compress(model, spectra, plan)
            assert arsvd.evaluate(small, x, y).accuracy == pytest.approx(point.accuracy, abs=1.5 / len(x))
            assert sum(parameter.numel() for parameter in small.parameters()) == point.cost.numbers
        plan = arsvd.plan(spectra, arsvd.Ranks((2, 4, 2)))
        losses = [
            arsvd.evaluate(made, x, y).loss
            for made in (arsvd.compress(model, spectra, plan), refit(model, spectra, plan, x))
        ]
        assert losses[1] < losses[0]
