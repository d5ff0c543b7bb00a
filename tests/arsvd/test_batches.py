"""What is taken for calibration inputs and for labelled data, and what is refused in words."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import arsvd
from arsvd.evaluation.evaluator import Evaluator
from arsvd.refit import refit
from arsvd.statistics.pack import pack_spectra

X = torch.randn(40, 12, generator=torch.Generator().manual_seed(3))
Y = torch.randint(0, 4, (40,), generator=torch.Generator().manual_seed(4))
SEVERAL = "is taken for one batch of several inputs, which this release cannot feed"


class Embedding(nn.Module):
    """Takes token ids, and silently a mask as well, which are of one shape."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.body, self.head = nn.Embedding(50, 8), nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.head(torch.relu(self.body(self.embedding(ids))).mean(1))


def used_up() -> Iterator[Tensor]:
    batches = iter([X])
    next(batches)
    return batches


IDS = torch.randint(0, 50, (6, 7))
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "ids and mask": (lambda: (IDS, torch.ones_like(IDS)), f"a tuple {SEVERAL}; if these are"),
    "tuple of batches": (
        lambda: X.split(10),
        "a tuple is .* if these are batches, pass a list",
    ),
    "one tensor in a tuple": (lambda: (X,), "a tuple is taken for .*; pass the tensor itself"),
    "dict": (lambda: {"input_ids": IDS}, "a dict is taken for one batch of named inputs"),
    "NumPy array": (lambda: X.numpy(), r"got a NumPy array, pass torch\.from_numpy\(array\)"),
    "text": (lambda: "calibration.npy", "got 'calibration.npy', a str"),
    "bytes": (lambda: b"\0\1", r"got b'.*', a bytes"),
    "number": (lambda: 3, "got 3, a int"),
    "data set": (lambda: TensorDataset(X), "TensorDataset gives single samples, wrap it in a .*DataLoader"),
    "iterator at its end": (used_up, "holds no batches; an iterator that was walked before is empty"),
    "empty list": (list, "calibration holds no batches"),
    "loader of an empty set": (lambda: DataLoader(X[:0]), "calibration holds no batches"),
    "widths": (
        lambda: [X, X[:, :11]],
        r"shape \(40, 12\) of .* and shape \(40, 11\) of .* iter\(",
    ),
    "dimensions": (lambda: [X, X[:, 0]], r"must be alike, got shape \(40, 12\) .* and shape \(40,\) of"),
    "dimensions of a generator": (lambda: iter([X, X[:, 0]]), "batches must be alike"),
    "dtypes": (lambda: [X, Y[:, None]], r"and shape \(40, 1\) of torch.int64: they are taken for several"),
    "dtypes of a generator": (lambda: iter([X, X.double()]), "batches must be alike"),
    "numbers": (lambda: [torch.tensor(1.0)], "are of shape .*, got a single number"),
}
NO_TENSORS: dict[str, tuple[Callable[[], Any], str]] = {
    "inputs and labels": (lambda: DataLoader(TensorDataset(X, Y), 10), "got a list; if a loader also gives"),
    "dicts": (lambda: [{"input_ids": IDS}], "got a dict"),
    "tuples": (lambda: [(IDS, IDS)], "got a tuple"),
    "arrays": (lambda: [X.numpy()], "got a ndarray"),
    "texts": (lambda: ["a", "b"], "got a str"),
}


@pytest.mark.parametrize("basis", ["activation", "loss"])
@pytest.mark.parametrize("name", REFUSED)
def test_values_other_than_batches_of_inputs_are_refused(name: str, basis: str) -> None:
    make, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        arsvd.spectra(arsvd.MLP([12, 9, 4]), make(), basis=basis)
    with pytest.raises(ValueError, match=message):
        pack_spectra([arsvd.MLP([12, 9, 4])], make(), basis=basis)


def test_a_mask_is_never_fed_as_ids() -> None:
    for calibration in ((IDS, torch.ones_like(IDS)), {"ids": IDS, "mask": torch.ones_like(IDS)}):
        with pytest.raises(ValueError, match="which this release cannot feed"):
            arsvd.spectra(Embedding(), calibration)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NO_TENSORS)
def test_batches_other_than_tensors_are_refused(name: str) -> None:
    make, message = NO_TENSORS[name]
    with pytest.raises(TypeError, match=message):
        arsvd.spectra(arsvd.MLP([12, 9, 4]), make())


@pytest.mark.parametrize(
    "batches",
    [
        pytest.param(lambda: [IDS, IDS.flip(0)], id="list"),
        pytest.param(lambda: [IDS, IDS[:2].flip(0)], id="list with fewer rows at the end"),
        pytest.param(lambda: DataLoader(torch.cat([IDS, IDS]), 5), id="loader"),
        pytest.param(lambda: iter([IDS[:, :4], IDS]), id="iterator of several lengths"),
        pytest.param(lambda: IDS, id="tensor"),
    ],
)
def test_token_ids_are_inputs(batches: Callable[[], Any]) -> None:
    model = Embedding()
    spectra = arsvd.spectra(model, batches())
    assert [s.name for s in spectra] == ["body", "head"]
    seen = torch.cat(
        [batch.flatten() for batch in (batches() if not isinstance(batches(), Tensor) else [IDS])]
    )
    expected = model.body(model.embedding(seen)).detach() - model.body.bias.detach()
    torch.testing.assert_close(spectra.layers[0].mean.float(), expected.mean(0))


def test_inputs_made_in_inference_mode_are_taken() -> None:
    model = arsvd.MLP([12, 9, 4])
    with torch.inference_mode():
        spectra = arsvd.spectra(model, X + 0, basis="loss")
        small = arsvd.compress(model, spectra, arsvd.plan(spectra, arsvd.Ranks((1, 1))))
    assert not any(p.is_inference() for p in small.parameters())
    small(X).sum().backward()


def with_numbers(change: Callable[[nn.Linear], object]) -> nn.Module:
    model = nn.Sequential(nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, 4))
    with torch.no_grad():
        change(model[2])
    return model


def in_inference_mode() -> nn.Module:
    with torch.inference_mode():
        return arsvd.MLP([12, 9, 4])


NUMBERS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "meta": (
        lambda: with_numbers(lambda m: m.to("meta")),
        "layer '2' holds no numbers",
    ),
    "complex": (
        lambda: with_numbers(lambda m: m.to(torch.complex64)),
        "layer '2' holds complex",
    ),
    "inference": (in_inference_mode, r"MLP was made in torch\.inference_mode\(\), .* make it outside"),
    "nan weight": (
        lambda: with_numbers(lambda m: m.weight[1, 2].fill_(torch.nan)),
        "layer '2' holds NaN or infinite weights",
    ),
    "nan bias": (
        lambda: with_numbers(lambda m: m.bias[1].fill_(torch.nan)),
        "layer '2' holds NaN or infinite biases",
    ),
    "infinite bias": (
        lambda: with_numbers(lambda m: m.bias[1].fill_(-torch.inf)),
        "layer '2' holds NaN or infinite biases",
    ),
}


@pytest.mark.filterwarnings("ignore:Complex modules are a new feature")
@pytest.mark.parametrize("calibration", [None, X], ids=["weight", "activation"])
@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_that_cannot_be_factorised(name: str, calibration: Tensor | None) -> None:
    make, message = NUMBERS[name]
    with pytest.raises(ValueError, match=message):
        arsvd.spectra(make(), calibration)


def test_biases_of_packs_are_looked_at() -> None:
    models = [arsvd.MLP([12, 9, 4]) for _ in range(2)]
    with torch.no_grad():
        models[1].linear1.bias[3] = torch.inf
    with pytest.raises(ValueError, match="layer 'linear1' of model 1 holds NaN or infinite biases"):
        pack_spectra(models)


LABELS: dict[str, tuple[Any, str]] = {
    "one-hot": (
        torch.eye(4)[Y],
        r"one whole number a row, got torch.float32 of shape \(40, 4\): pass labels\.argmax\(1\)",
    ),
    "one-hot whole numbers": (torch.eye(4).long()[Y], r"of shape \(40, 4\): pass labels\.argmax\(1\)"),
    "column": (Y[:, None], r"got torch.int64 of shape \(40, 1\): pass labels\[:, 0\]"),
    "fractions": (
        Y.float(),
        r"got torch.float32 of shape \(40,\): pass labels\.long\(\)",
    ),
    "complex": (Y.to(torch.complex64), "got torch.complex64 of shape"),
    "single": (torch.tensor(1), r"got torch.int64 of shape \(\)"),
    "fewer": (Y[:30], "40 rows of logits and 30 labels cannot be compared"),
    "array": (Y.numpy(), r"the labels must be one tensor, .* a ndarray: pass torch\.from_numpy\(array\)"),
    "list": (Y.tolist(), "the labels must be one tensor, rows first, got a list"),
    "none": (None, "the labels must be one tensor, rows first, got a NoneType"),
}
INPUTS: dict[str, tuple[Any, str]] = {
    "tuple": ((X, X), "the inputs must be one tensor, rows first, got a tuple, which is taken for several"),
    "dict": ({"x": X}, "got a dict, which is taken for several inputs"),
    "list of batches": ([X, X], "the inputs must be one tensor, rows first, got a list"),
    "array": (X.numpy(), r"the inputs must be .*: pass torch\.from_numpy\(array\)"),
    "single": (torch.tensor(1.0), "the inputs must be of shape .*, got a single number"),
    "width": (X[:, :5], r"the model does not take .*inputs of shape \(\d+, 5\) and torch\.float32: "),
    "dtype": (X.double(), r"the model does not take .*inputs of shape \(\d+, 12\) and torch\.float64: "),
}


class Classifier(nn.Module):
    """Not a chain."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(12, 9), nn.Linear(9, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.body(x)))


@pytest.mark.parametrize("make", [lambda: arsvd.MLP([12, 9, 4]), Classifier], ids=["chain", "other"])
@pytest.mark.parametrize(
    ("inputs", "labels", "message"),
    [pytest.param(X, labels, message, id=f"labels {name}") for name, (labels, message) in LABELS.items()]
    + [pytest.param(inputs, Y, message, id=f"inputs {name}") for name, (inputs, message) in INPUTS.items()],
)
def test_labelled_data_is_refused_in_words(
    make: Callable[[], nn.Module], inputs: Any, labels: Any, message: str
) -> None:
    model = make()
    spectra = arsvd.spectra(model)
    with pytest.raises(ValueError, match=message):
        arsvd.evaluate(model, inputs, labels)
    with pytest.raises(ValueError, match=message):
        Evaluator(model, spectra, inputs, labels).metrics([(1, 1)])
    with pytest.raises(ValueError, match=message):
        arsvd.front(model, spectra, (inputs, labels), rules=[arsvd.Energy(0.5)])


@pytest.mark.parametrize("validation", [X, (X,), (X, Y, Y), DataLoader(TensorDataset(X, Y)), None])
def test_validation_is_a_pair(validation: Any) -> None:
    model = arsvd.MLP([12, 9, 4])
    with pytest.raises(ValueError, match=r"validation is the pair \(inputs, labels\), got"):
        arsvd.front(model, arsvd.spectra(model), validation)


@pytest.mark.parametrize(
    ("body", "got"),
    [(nn.Unflatten(1, (2, 2)), r"\(40, 2, 2\)"), (nn.Flatten(0), r"\(160,\)"), (nn.LSTM(4, 3), "tuple")],
)
def test_models_that_give_no_logits_are_not_measured(body: nn.Module, got: str) -> None:
    model = nn.Sequential(nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, 4), body)
    spectra = arsvd.spectra(model)
    message = rf"accuracy is measured of a classifier that gives logits \(rows, classes\), got {got}"
    with pytest.raises(ValueError, match=message):
        arsvd.evaluate(model, X, Y)
    with pytest.raises(ValueError, match=message):
        Evaluator(model, spectra, X, Y).metrics([(1, 1)])


def test_running_out_of_memory_is_not_called_wrong_inputs() -> None:
    class Large(Classifier):
        def forward(self, x: Tensor) -> Tensor:
            raise torch.OutOfMemoryError("too large")

    with pytest.raises(torch.OutOfMemoryError):
        arsvd.evaluate(Large(), X, Y)


def test_refitting_takes_one_tensor() -> None:
    model = arsvd.MLP([12, 9, 4])
    spectra = arsvd.spectra(model)
    plan = arsvd.plan(spectra, arsvd.Ranks((1, 1)))
    with pytest.raises(ValueError, match="the inputs must be one tensor, rows first, got a tuple"):
        refit(model, spectra, plan, (X, X))  # type: ignore[arg-type]


def test_arrays_of_whole_numbers_are_hinted_at() -> None:
    with pytest.raises(ValueError, match="NumPy array"):
        arsvd.spectra(Embedding(), np.zeros((4, 3), dtype=np.int64))  # type: ignore[arg-type]
