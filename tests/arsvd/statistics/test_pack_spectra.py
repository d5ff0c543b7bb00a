"""Spectra of several models at once: the same as one model after the other gives."""

from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import arsvd
from arsvd import MLP, Spectra
from arsvd.statistics import pack as module
from arsvd.statistics.pack import pack_spectra

Models = Callable[..., list[MLP]]
Count = Callable[[Callable[[], object]], Counter[str]]

BASES = ("weight", "activation", "loss")


def rows(count: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return (torch.randn(count, 12, generator=torch.Generator().manual_seed(5)) + 0.3).to(dtype)


def assert_same(ours: Spectra, theirs: Spectra, tolerance: float) -> int:
    """Compare spectra up to signs and degenerate directions; returns how many projectors were compared."""
    assert (ours.basis, ours.other.numbers, len(ours)) == (theirs.basis, theirs.other.numbers, len(theirs))
    compared = 0
    for a, b in zip(ours, theirs, strict=True):
        described = [(s.name, s.basis, s.out_features, s.in_features, s.has_bias) for s in (a, b)]
        assert described[0] == described[1]
        largest = float(b.energy[0]) or 1.0
        torch.testing.assert_close(a.energy / largest, b.energy / largest, rtol=0, atol=tolerance)
        assert torch.equal(a.energy == 0, b.energy == 0)
        torch.testing.assert_close(a.mean, b.mean, rtol=tolerance, atol=tolerance)
        assert (a.dual_vectors is None) == (b.dual_vectors is None)
        for part in (a.energy, a.vectors, a.mean):
            assert part.dtype == torch.float64
            assert part.is_contiguous()
            assert part.untyped_storage().nbytes() == part.numel() * 8  # nobody else's numbers with it
        assert a.vectors.shape == b.vectors.shape
        for rank in range(1, a.largest):
            if float(b.energy[rank - 1] - b.energy[rank]) > 1e-3 * largest:
                projectors = [s.vectors[:, :rank] @ s.duals[:, :rank].T for s in (a, b)]
                torch.testing.assert_close(*projectors, rtol=0, atol=1e3 * tolerance)
                compared += 1
    return compared


@pytest.mark.parametrize("batch_size", [7, 2048])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("basis", BASES)
def test_equals_one_model_after_the_other(
    new_models: Models, pack_name: str, basis: str, dtype: torch.dtype, batch_size: int
) -> None:
    models = new_models(pack_name, dtype)
    calibration = None if basis == "weight" else rows(90, dtype)
    found = pack_spectra(models, calibration, basis, batch_size)
    tolerance = 1e-7  # the loss basis takes probabilities in float32, whatever the model's dtype
    compared = [
        assert_same(ours, arsvd.spectra(model, calibration, basis=basis), tolerance)
        for ours, model in zip(found, models, strict=True)
    ]
    assert len(compared) == len(models)
    assert min(compared) >= 2


@pytest.mark.parametrize("basis", BASES)
def test_parts_that_fit_into_memory_do_not_matter(
    new_models: Models, basis: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    models, calibration = new_models("different widths"), None if basis == "weight" else rows(90)
    whole = pack_spectra(models, calibration, basis)
    monkeypatch.setattr(module, "MATRIX_ELEMENTS", 2 * (30**2 + 20**2 + 4**2))  # two members, or one
    monkeypatch.setattr(module, "OUTPUT_ELEMENTS", 500)  # a few rows
    for a, b in zip(pack_spectra(models, calibration, basis), whole, strict=True):
        assert assert_same(a, b, 1e-9) >= 3


def test_batches_of_inputs_are_taken_as_well(new_models: Models) -> None:
    models, calibration = new_models("two layers"), rows(60)
    whole = pack_spectra(models, calibration)
    for a, b in zip(pack_spectra(models, iter(calibration.split([1, 30, 29]))), whole, strict=True):
        assert_same(a, b, 1e-9)
    images = pack_spectra(models, calibration.reshape(60, 3, 2, 2))  # an MLP flattens what it gets
    for a, b in zip(images, whole, strict=True):
        assert_same(a, b, 1e-12)


@pytest.mark.parametrize("basis", BASES)
def test_layers_without_energy_or_bias_and_dropout_are_as_they_are_alone(
    new_models: Models, basis: str
) -> None:
    models = [*new_models([[12, 10, 4]] * 2), MLP([12, 10, 4], dropout=0.5).double()]
    models[0].linear2 = nn.Linear(10, 4, bias=False).double()
    with torch.no_grad():
        models[1].linear1.weight.zero_()
    calibration = None if basis == "weight" else rows(90)
    found = pack_spectra(models, calibration, basis)
    for ours, model in zip(found, models, strict=True):
        assert_same(ours, arsvd.spectra(model, calibration, basis=basis), 1e-7)
    assert not found[1].layers[0].energy.any()
    assert [spectra.layers[1].has_bias for spectra in found] == [False, True, True]
    assert models[2].training


def test_the_models_are_untouched(new_models: Models) -> None:
    models = new_models("different widths")
    before = [{name: value.clone() for name, value in model.state_dict().items()} for model in models]
    pack_spectra(models, rows(50), "loss")
    for model, state in zip(models, before, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
        assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_no_models_have_no_spectra() -> None:
    assert pack_spectra([], rows(9)) == []


@pytest.mark.parametrize(
    ("basis", "times"), [("weight", 2.5), ("activation", 3.5), ("loss", 4.0)]
)  # measured: 3.3, 4.3 and 4.4
def test_operations_are_dispatched_for_all_members_at_once(
    new_models: Models, operations: Count, basis: str, times: float
) -> None:
    models = new_models([[12, 14, 10, 4]] * 8, torch.float32)
    calibration = None if basis == "weight" else rows(90, torch.float32)
    alone = operations(lambda: [arsvd.spectra(model, calibration, basis=basis) for model in models])
    together = operations(lambda: pack_spectra(models, calibration, basis))
    assert alone.total() > times * together.total()
    assert together["aten::_local_scalar_dense"] == 0  # numbers that the host reads one by one


def changed(**parts: nn.Module) -> MLP:
    model = MLP([12, 10, 4])
    for name, part in parts.items():
        setattr(model, name, part)
    return model


def hooked() -> MLP:
    model = MLP([12, 10, 4])
    model.relu1.register_forward_hook(lambda *_: None)
    return model


class Own(MLP):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * 2


OTHERS = {
    "no MLP": lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 4)),
    "a compressed layer": lambda: changed(linear1=arsvd.LowRankLinear(12, 2, 10)),
    "another activation": lambda: changed(relu1=nn.Tanh()),
    "a hook": hooked,
    "a forward pass of its own": lambda: Own([12, 10, 4]),
    "half precision": lambda: MLP([12, 10, 4]).to(torch.bfloat16),
    "layers of two dtypes": lambda: changed(linear2=nn.Linear(10, 4).double()),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_models_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="model 1 is no dense MLP in float32 or float64"):
        pack_spectra([MLP([12, 10, 4]), OTHERS[name]()])


def test_shared_weights_are_refused() -> None:
    model = MLP([12, 12, 12, 4])
    model.linear2.weight = model.linear1.weight
    with pytest.raises(ValueError, match="model 0 has layers that stay dense, such as tied ones"):
        pack_spectra([model])


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(MLP([12, 10, 10, 4]), id="layers"),
        pytest.param(MLP([11, 10, 4]), id="inputs"),
        pytest.param(MLP([12, 10, 5]), id="classes"),
        pytest.param(MLP([12, 10, 4]).double(), id="dtype"),
    ],
)
def test_models_that_do_not_go_together_are_refused(other: MLP) -> None:
    with pytest.raises(ValueError, match="agree in layers, inputs, classes, dtype and device"):
        pack_spectra([MLP([12, 10, 4]), other])


BAD = {
    "one row": (torch.randn(1, 12), None, r"at least 2 rows of inputs, got a tensor of shape \(1, 12\)"),
    "one batch of one row": ([torch.randn(1, 12)], None, "layer 'linear1' saw 1 calibration rows"),
    "no batches": ([], None, "calibration holds no batches"),
    "wrong width": (torch.randn(9, 5), None, r"do not take calibration inputs of shape \(9, 5\)"),
    "wrong dtype": (rows(9), None, r"inputs of shape \(9, 12\) and torch\.float64: they need 12 features"),
    "nan": (torch.full((9, 12), torch.nan), None, "layer 'linear1' gives outputs that are not finite"),
    "no calibration": (None, "loss", "the loss basis needs calibration inputs"),
    "unknown basis": (torch.randn(9, 12), "losses", "unknown basis 'losses'"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_calibration_is_refused(name: str) -> None:
    calibration, basis, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        pack_spectra([MLP([12, 10, 4])] * 2, calibration, basis)


@pytest.mark.parametrize("calibration", [None, torch.randn(9, 12)], ids=["weight", "activation"])
def test_weights_that_are_not_finite_are_named(calibration: Tensor | None) -> None:
    models = [MLP([12, 10, 4]) for _ in range(3)]
    with torch.no_grad():
        models[2].linear2.weight[1, 2] = torch.nan
    with pytest.raises(ValueError, match="layer 'linear2' of model 2 holds NaN or infinite weights"):
        pack_spectra(models, calibration)
