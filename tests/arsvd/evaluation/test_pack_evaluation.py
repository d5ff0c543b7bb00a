"""Measuring several models together: the same metrics as each evaluator gives alone."""

import itertools
from collections import Counter
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

import arsvd
from arsvd import MLP, Spectra
from arsvd.evaluation import batched as module
from arsvd.evaluation.batched import measure_together
from arsvd.evaluation.evaluator import Evaluator, Metrics, RankTuple
from arsvd.evaluation.scoring import measure, read, scores
from arsvd.formats.low_rank import TILE

Models = Callable[..., list[MLP]]
Count = Callable[[Callable[[], object]], Counter[str]]


@pytest.fixture
def labelled() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(70, 12, dtype=torch.float64, generator=generator) + 0.2
    return x, torch.randint(0, 4, (70,), generator=generator)


def spectra_of(models: Sequence[nn.Module], inputs: Tensor, basis: str = "activation") -> list[Spectra]:
    calibration = None if basis == "weight" else inputs
    return [arsvd.spectra(model, calibration, basis=basis) for model in models]


def some_tuples(spectra: Spectra) -> list[RankTuple]:
    """A low, a middle, the full and no rank of each layer in all combinations, above break-even as well."""
    return list(itertools.product(*[(1, (s.largest + 1) // 2, s.largest, None) for s in spectra]))


def assert_close(ours: dict[RankTuple, Metrics], theirs: dict[RankTuple, Metrics], rel: float = 1e-6) -> None:
    assert ours.keys() == theirs.keys()
    for ranks, metrics in ours.items():
        other = theirs[ranks]
        assert (metrics.accuracy, metrics.macro_f1) == (other.accuracy, other.macro_f1), ranks
        assert metrics.loss == pytest.approx(other.loss, rel=rel), ranks


def compared(
    models: Sequence[nn.Module], found: Sequence[Spectra], x: Tensor, y: Tensor, batch_size: int = 8192
) -> int:
    """Measure alone and together and compare; returns how many points were."""
    ranks = [some_tuples(spectra) for spectra in found]
    evaluators = [Evaluator(model, s, x, y, batch_size) for model, s in zip(models, found, strict=True)]
    measure_together(zip(evaluators, ranks, strict=True))
    for model, evaluator, wanted in zip(models, evaluators, ranks, strict=True):
        assert evaluator.missing(wanted) == []
        alone = Evaluator(model, evaluator.spectra, x, y).metrics(wanted)
        assert_close(evaluator.metrics(wanted), alone)
    return sum(evaluator.evaluated for evaluator in evaluators)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("basis", ["weight", "activation", "loss"])
def test_equals_each_evaluator_alone(
    new_models: Models, pack_name: str, basis: str, dtype: torch.dtype, labelled: tuple[Tensor, Tensor]
) -> None:
    models, x = new_models(pack_name, dtype), labelled[0].to(dtype)
    assert compared(models, spectra_of(models, x, basis), x, labelled[1]) >= 4 * len(models)


@pytest.mark.parametrize("batch_size", [3, 32])
def test_batches_do_not_matter(new_models: Models, labelled: tuple[Tensor, Tensor], batch_size: int) -> None:
    models = new_models("different widths")
    compared(models, spectra_of(models, labelled[0]), *labelled, batch_size)


@pytest.mark.parametrize("elements", [1, 70 * 30 * 5, 70 * 30 * 40])
def test_chunks_do_not_matter(
    new_models: Models, labelled: tuple[Tensor, Tensor], elements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "OUTPUT_ELEMENTS", elements)
    models = new_models("different widths")
    compared(models, spectra_of(models, labelled[0]), *labelled)


def test_ranks_of_several_tiles(labelled: tuple[Tensor, Tensor], new_models: Models) -> None:
    models = new_models([[12, 3 * TILE, 2 * TILE + 5, 4], [12, TILE, 3 * TILE, 4]])
    assert compared(models, spectra_of(models, labelled[0]), *labelled) >= 2 * 27


def test_bases_are_measured_together_as_well(new_models: Models, labelled: tuple[Tensor, Tensor]) -> None:
    (model,) = new_models("one member")
    found = [
        spectra
        for basis in ("weight", "loss", "activation")
        for spectra in spectra_of([model], labelled[0], basis)
    ]
    assert compared([model] * 3, found, *labelled) == 3 * 64


def test_layers_without_bias_and_dropout(new_models: Models, labelled: tuple[Tensor, Tensor]) -> None:
    models = [*new_models([[12, 10, 4]]), MLP([12, 10, 4], dropout=0.5).double()]
    models[0].linear2 = nn.Linear(10, 4, bias=False).double()
    for basis in ("weight", "activation"):
        compared(models, spectra_of(models, labelled[0], basis), *labelled)


def test_other_models_are_measured_alone(
    anything: nn.Module, new_models: Models, labelled: tuple[Tensor, Tensor]
) -> None:
    models = [*new_models("two layers"), anything.double()]
    compared(models, spectra_of(models, labelled[0]), *labelled)


def test_models_with_some_layers_kept_dense_are_measured_alone(
    new_models: Models, labelled: tuple[Tensor, Tensor]
) -> None:
    models = new_models("three alike")
    found = [arsvd.spectra(model, labelled[0], layers=["linear1", "linear3"]) for model in models]
    assert compared(models, found, *labelled) == 3 * 16


def test_half_precision_rounds_as_alone(labelled: tuple[Tensor, Tensor], new_models: Models) -> None:
    models, x = new_models("three alike", torch.bfloat16), labelled[0].bfloat16()
    compared(models, spectra_of(models, x), x, labelled[1])


def test_known_points_are_not_measured_again(
    new_models: Models, labelled: tuple[Tensor, Tensor], operations: Count
) -> None:
    models = new_models("three alike")
    first, second, third = (
        Evaluator(model, spectra, *labelled)
        for model, spectra in zip(models, spectra_of(models, labelled[0]), strict=True)
    )
    known = first.metrics([(1, 1, 1)])
    wanted: list[RankTuple] = [(1, 1, 1), (2, 1, None), (2, 1, None)]
    measure_together([(first, wanted), (second, wanted[:1]), (second, wanted[1:]), (third, [])])
    assert [evaluator.evaluated for evaluator in (first, second, third)] == [2, 2, 0]
    assert first.metrics(wanted)[(1, 1, 1)] is known[(1, 1, 1)]
    assert operations(lambda: measure_together([(first, wanted), (second, wanted)])).total() == 0


@pytest.mark.parametrize(
    ("labels", "message"),
    [([0, 4], r"labels must be in 0 … 3, got 0 … 4"), ([1], "2 rows of logits and 1 labels")],
)
def test_bad_labels_are_refused(new_models: Models, labels: list[int], message: str) -> None:
    models, x = new_models("three alike"), torch.randn(2, 12, dtype=torch.float64)
    with pytest.raises(ValueError, match=message):
        compared(models, spectra_of(models, x), x, torch.tensor(labels))


def test_operations_are_dispatched_for_all_members_at_once(
    new_models: Models, labelled: tuple[Tensor, Tensor], operations: Count
) -> None:
    models, x, y = new_models([[12, 14, 10, 4]] * 8, torch.float32), labelled[0].float(), labelled[1]
    found = spectra_of(models, x)
    ranks = [some_tuples(spectra) for spectra in found]

    def evaluators() -> list[Evaluator]:
        return [Evaluator(model, spectra, x, y) for model, spectra in zip(models, found, strict=True)]

    alone = operations(lambda: [e.metrics(r) for e, r in zip(evaluators(), ranks, strict=True)])
    ours = evaluators()
    together = operations(lambda: measure_together(zip(ours, ranks, strict=True)))
    assert alone.total() > 40 * together.total()  # measured: 2,770 a member against 38
    smallest_and_largest_label = 2
    assert together["aten::_local_scalar_dense"] == smallest_and_largest_label
    more = [[(3, 3, 3), (4, None, 2)]] * 8
    later = operations(lambda: measure_together(zip(ours, more, strict=True)))
    waiting = ("aten::_local_scalar_dense", "aten::bincount", "aten::nonzero", "aten::equal")
    assert [later[name] for name in waiting] == [0, 0, 0, 0]


def test_each_of_several_models_gets_its_own_score() -> None:
    logits, labels = torch.randn(2, 3, 50, 5), torch.randint(0, 5, (50,))
    several = scores(logits, labels)
    assert several.shape == (2, 3, 3)
    for metrics, each in zip(read(several.flatten(0, 1), 50), logits.flatten(0, 1), strict=True):
        assert metrics == measure(each, labels)
