"""How much of a model a plan is about: shares of numbers and multiplications, and what stays dense."""

import json
import pickle
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import arsvd
from arsvd.coverage import Coverage
from arsvd.statistics.pack import pack_spectra

ROWS = 6


class Sequence(nn.Module):
    """Layers applied to 7 positions a row, to one, and to 7 positions twice."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.shared, self.head = nn.Linear(8, 10), nn.Linear(10, 10), nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.shared(torch.relu(self.shared(torch.relu(self.body(x)))))
        return self.head(x.mean(1))


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.TransformerEncoderLayer(8, 2, 20, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x).mean(1))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.LSTM(8, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cell(x)[0][:, -1])


class OneByOne(nn.Module):
    """Multiplies single rows, which are vectors, and by a matrix of its own as well."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix, self.head = nn.Parameter(torch.randn(8, 8)), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.head(torch.mv(self.matrix, row)) for row in x])


def convolutional() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 5))


# name: makes a model, inputs, multiplications a row of its layers and of the whole
MODELS: dict[str, tuple[Callable[[], nn.Module], Tensor, int, int]] = {
    "chain": (lambda: arsvd.MLP([8, 10, 3]), torch.randn(ROWS, 8), 80 + 30, 80 + 30),
    "positions": (Sequence, torch.randn(ROWS, 7, 8), 7 * 80 + 14 * 100 + 30, 7 * 80 + 14 * 100 + 30),
    "convolution": (convolutional, torch.randn(ROWS, 2, 8, 8), 720 + 36 * 4 * 2 * 9, 720 + 36 * 4 * 2 * 9),
    # four projections of 8 x 8, and 8 products with keys and 8 with values for each of 7 x 7 pairs
    "attention": (
        Attending,
        torch.randn(ROWS, 7, 8),
        7 * 2 * 160 + 24,
        7 * 2 * 160 + 24 + 7 * 4 * 64 + 2 * 49 * 8,
    ),
    "recurrence": (Recurrent, torch.randn(ROWS, 7, 8), 15, 15 + 7 * 4 * 5 * (8 + 5)),
    "vectors": (OneByOne, torch.randn(ROWS, 8), 24, 24 + 64),
}


@pytest.mark.parametrize("name", MODELS)
def test_multiplications_by_hand(name: str) -> None:
    make, inputs, own, overall = MODELS[name]
    model = make().eval()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "TF32 acceleration")
        coverage = arsvd.spectra(model, inputs).coverage
    assert coverage is not None
    assert (coverage.macs, coverage.model_macs) == (own, overall)
    assert coverage.macs_share == pytest.approx(own / overall)
    inside = sum(layer.weight.numel() + len(layer.bias) for layer in arsvd.find_sites(model).values())
    assert (coverage.params, coverage.model_params) == (inside, sum(p.numel() for p in model.parameters()))
    assert torch.backends.mha.get_fastpath_enabled()
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_layers_that_are_left_out_are_told_in_their_order() -> None:
    model = Sequence()
    coverage = arsvd.spectra(model, torch.randn(ROWS, 7, 8), layers=["shared"]).coverage
    assert coverage == Coverage(
        110,
        90 + 110 + 33,
        14 * 100,
        7 * 80 + 14 * 100 + 30,
        (("body", "it was not asked for"), ("head", "it was not asked for")),
    )


def test_without_inputs_only_numbers_are_told() -> None:
    coverage = arsvd.spectra(Sequence()).coverage
    assert coverage == Coverage(233, 233)
    assert coverage.macs_share is None
    assert coverage.params_share == 1.0


def test_a_model_that_cannot_be_counted_is_planned_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> int:
        raise KeyError("an operation")

    monkeypatch.setitem(torch.utils.flop_counter.flop_registry, torch.ops.aten.addmm, fails)
    coverage = arsvd.spectra(Sequence(), torch.randn(ROWS, 7, 8)).coverage
    assert coverage == Coverage(233, 233)


def test_an_exported_program_is_run_on_its_own_shape(tmp_path: object) -> None:
    path = f"{tmp_path}/model.pt2"
    arsvd.write_model(convolutional().eval(), path, torch.randn(3, 2, 8, 8))
    spectra = arsvd.spectra(arsvd.read_model(path))
    assert spectra.coverage is not None
    assert (spectra.coverage.macs, spectra.coverage.model_macs) == (720 + 36 * 4 * 2 * 9,) * 2


def test_packs_have_the_same_coverage_as_single_models() -> None:
    models = [arsvd.MLP([8, 10, 3]), arsvd.MLP([8, 5, 3])]
    assert [found.coverage for found in pack_spectra(models)] == [
        arsvd.spectra(model).coverage for model in models
    ]


class TestPlans:
    def test_a_plan_keeps_it_in_its_json(self) -> None:
        spectra = arsvd.spectra(Sequence(), torch.randn(ROWS, 7, 8), layers=["shared"])
        plan = arsvd.plan(spectra, arsvd.Energy(0.5))
        assert plan.coverage == spectra.coverage
        values = json.loads(json.dumps(plan.to_dict(), allow_nan=False))
        assert [name for name, _ in values["coverage"]["skipped"]] == ["body", "head"]
        assert arsvd.Plan.from_dict(values) == plan

    def test_plans_of_earlier_releases_are_read(self) -> None:
        values = arsvd.plan(arsvd.spectra(Sequence()), arsvd.Energy(0.5)).to_dict()
        del values["coverage"]
        assert arsvd.Plan.from_dict(values).coverage is None

    @pytest.mark.parametrize("coverage", [{"params": 3}, {"colour": 1}, 7, "all", {"skipped": [["a"]]}])
    def test_invalid_coverage_is_refused(self, coverage: object) -> None:
        values = arsvd.plan(arsvd.spectra(Sequence()), arsvd.Energy(0.5)).to_dict()
        with pytest.raises(ValueError, match="these values are not a plan"):
            arsvd.Plan.from_dict({**values, "coverage": coverage})


def test_pickled_spectra_hold_no_rows_of_the_users_data() -> None:
    x = torch.randn(400, 7, 8)
    spectra = arsvd.spectra(Sequence(), x)
    assert spectra.example is not None
    assert torch.equal(spectra.example, x[:2])
    assert spectra.example.untyped_storage().nbytes() == 2 * 7 * 8 * 4
    assert "example" not in repr(spectra)
    again = pickle.loads(pickle.dumps(spectra))
    assert again.example is None
    assert again.coverage == spectra.coverage
