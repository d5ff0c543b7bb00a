"""Measuring: metrics against scikit-learn, and the Evaluator against compress + evaluate."""

import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import accuracy_score, f1_score
from torch import Tensor, nn

import arsvd
from arsvd import OperatingPoint, Ranks, Spectra
from arsvd.batches import EXAMPLE_ROWS
from arsvd.evaluation.evaluator import Evaluator, Metrics, measure

RankTuple = tuple[int | None, ...]


class TestMeasure:
    @pytest.mark.parametrize("classes", [2, 3, 10])
    def test_equals_scikit_learn(self, classes: int) -> None:
        labels = torch.randint(0, classes, (200,))
        logits = torch.randn(200, classes) + 1.5 * F.one_hot(labels, classes)
        metrics, predicted = measure(logits, labels), logits.argmax(1)
        assert metrics.accuracy == pytest.approx(accuracy_score(labels, predicted))
        assert metrics.macro_f1 == pytest.approx(f1_score(labels, predicted, average="macro"))
        assert metrics.loss == pytest.approx(F.cross_entropy(logits, labels).item())

    def test_classes_that_never_occur_count_as_zero(self) -> None:
        labels = torch.tensor([0, 0, 1, 1])
        logits = F.one_hot(torch.tensor([0, 2, 1, 1]), 5).float()
        expected = f1_score(labels, logits.argmax(1), average="macro", labels=range(5), zero_division=0)
        assert measure(logits, labels).macro_f1 == pytest.approx(expected) == pytest.approx((2 / 3 + 1) / 5)

    @pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64], ids=str)
    def test_any_whole_numbers_are_labels(self, dtype: torch.dtype) -> None:
        labels, logits = torch.randint(0, 100, (300,)), torch.randn(300, 100)
        assert measure(logits, labels.to(dtype)) == measure(logits, labels)

    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            pytest.param([0, 3, 1], r"labels must be in 0 … 2, got 0 … 3", id="too large"),
            pytest.param([0, -1, 1], r"labels must be in 0 … 2, got -1 … 1", id="negative"),
            pytest.param([0, 1], "3 rows of logits and 2 labels cannot be compared", id="too few"),
            pytest.param([], "3 rows of logits and 0 labels cannot be compared", id="none"),
        ],
    )
    def test_refuses(self, labels: list[int], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            measure(torch.randn(3, 3), torch.tensor(labels, dtype=torch.int64))


class TestEvaluate:
    @pytest.mark.parametrize("batch_size", [1, 7, 50, 4096])
    def test_batches_do_not_matter_and_dropout_is_off(self, batch_size: int) -> None:
        model = arsvd.MLP([12, 14, 4], dropout=0.5).double()
        x, y = torch.randn(50, 12).double(), torch.randint(0, 4, (50,))
        expected = measure(model.eval()(x).detach(), y)
        model.train()
        assert close(arsvd.evaluate(model, x, y, batch_size), expected)
        assert model.training

    def test_the_mode_comes_back_after_an_error(self) -> None:
        model = arsvd.MLP([12, 14, 4], dropout=0.5)
        model.linear1.eval()
        with pytest.raises(ValueError, match="labels must be in"):
            arsvd.evaluate(model, torch.randn(9, 12), torch.full((9,), 4))
        assert model.training
        assert not model.linear1.training


def close(a: Metrics, b: Metrics) -> bool:
    same = (a.accuracy, a.macro_f1) == (b.accuracy, b.macro_f1)
    return same and a.loss == pytest.approx(b.loss, rel=1e-9)


@pytest.fixture
def labelled() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(70, 12, dtype=torch.float64, generator=generator)
    return x, torch.randint(0, 4, (70,), generator=generator)


@pytest.fixture(params=["weight", "activation", "loss"])
def spectra(request: pytest.FixtureRequest, anything: nn.Module, labelled: tuple[Tensor, Tensor]) -> Spectra:
    calibration = None if request.param == "weight" else labelled[0]
    return arsvd.spectra(anything.double(), calibration, basis=request.param)


def some_tuples(spectra: Spectra) -> list[RankTuple]:
    """A low, a middle and no rank of each layer in all combinations, above break-even as well."""
    choices = [(1, (s.largest + 1) // 2, None) for s in spectra]
    return list(itertools.product(*choices))


class TestEvaluator:
    def test_equals_compress_and_evaluate_for_every_rank_tuple(
        self, anything: nn.Module, spectra: Spectra, labelled: tuple[Tensor, Tensor]
    ) -> None:
        plans = [arsvd.plan(spectra, Ranks(ranks)) for ranks in some_tuples(spectra)]
        points = Evaluator(anything, spectra, *labelled).points(plans)
        by_ranks = {plan.ranks: plan for plan in plans}
        assert [point.ranks for point in points] == list(by_ranks)
        for point in points:
            small = arsvd.compress(anything, spectra, by_ranks[point.ranks])
            measured = Metrics(point.accuracy, point.macro_f1, point.loss)
            assert close(measured, arsvd.evaluate(small, *labelled)), point.ranks
            assert point.params == sum(p.numel() for p in small.parameters())

    def test_batches_do_not_matter(
        self, anything: nn.Module, spectra: Spectra, labelled: tuple[Tensor, Tensor]
    ) -> None:
        tuples = some_tuples(spectra)[::7]
        whole = Evaluator(anything, spectra, *labelled).metrics(tuples)
        for batch_size in (3, 32):
            batched = Evaluator(anything, spectra, *labelled, batch_size=batch_size).metrics(tuples)
            assert all(close(batched[ranks], whole[ranks]) for ranks in tuples)

    def test_the_model_is_untouched(
        self, anything: nn.Module, spectra: Spectra, labelled: tuple[Tensor, Tensor]
    ) -> None:
        modules = list(anything.train().modules())
        before = {name: value.clone() for name, value in anything.state_dict().items()}
        Evaluator(anything, spectra, *labelled).metrics(some_tuples(spectra)[:3])
        assert all(a is b for a, b in zip(anything.modules(), modules, strict=True))
        assert all(m.training for m in anything.modules())
        assert all(torch.equal(value, before[name]) for name, value in anything.state_dict().items())

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
    def test_half_precision_rounds_as_the_compressed_model_does(
        self, dtype: torch.dtype, labelled: tuple[Tensor, Tensor]
    ) -> None:
        model, x, y = arsvd.MLP([12, 14, 10, 4]).to(dtype), labelled[0].to(dtype), labelled[1]
        for spectra in (arsvd.spectra(model), arsvd.spectra(model, x)):
            evaluator = Evaluator(model, spectra, x, y)
            for ranks in itertools.product((1, 5, None), (2, 4, None), (1, 2, None)):
                small = arsvd.compress(model, spectra, arsvd.plan(spectra, Ranks(ranks)))
                expected = arsvd.evaluate(small, x, y)
                assert evaluator.metrics([ranks])[ranks].loss == pytest.approx(expected.loss, rel=1e-6), ranks

    def test_hooks_of_a_chain_are_seen(self, labelled: tuple[Tensor, Tensor]) -> None:
        model = nn.Sequential(nn.Sequential(nn.Linear(12, 9), nn.ReLU()), nn.Linear(9, 4)).double()
        model[0].register_forward_hook(lambda module, inputs, outputs: outputs * 3)
        spectra = arsvd.spectra(model)
        small = arsvd.compress(model, spectra, arsvd.plan(spectra, Ranks((2, 2))))
        measured = Evaluator(model, spectra, *labelled).metrics([(2, 2)])[(2, 2)]
        assert close(measured, arsvd.evaluate(small, *labelled))

    def test_labels_outside_are_refused(self, labelled: tuple[Tensor, Tensor]) -> None:
        model = arsvd.MLP([12, 3]).double()
        spectra = arsvd.spectra(model)
        with pytest.raises(ValueError, match=r"labels must be in 0 … 2, got 0 … 3"):
            Evaluator(model, spectra, *labelled).metrics([(1,)])


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rows: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > EXAMPLE_ROWS:  # passes of an example, which bound the rows, do not count
            self.rows.append(len(x))
        return x

    def __deepcopy__(self, memo: dict[int, object]) -> "Counting":
        return self  # the evaluator works on a copy: let it count here


class TestEvaluatorWork:
    def test_each_tuple_is_measured_once(self, labelled: tuple[Tensor, Tensor]) -> None:
        counting = Counting()
        model = nn.Sequential(counting, nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, 4)).double()
        evaluator = Evaluator(model, arsvd.spectra(model), *labelled)
        first = evaluator.metrics([(1, 1), (2, 1), (1, 1)])
        assert (evaluator.evaluated, counting.rows) == (2, [70])
        assert list(first) == [(1, 1), (2, 1)]
        second = evaluator.metrics([(2, 1), (None, 2)])
        assert (evaluator.evaluated, counting.rows) == (3, [70, 70])
        assert second[(2, 1)] is first[(2, 1)]
        evaluator.metrics([(1, 1), (2, 1), (None, 2)])
        assert (evaluator.evaluated, len(counting.rows)) == (3, 2)

    def test_a_chain_shares_what_equal_first_ranks_share(self, labelled: tuple[Tensor, Tensor]) -> None:
        after_first, after_second = Counting(), Counting()
        model = nn.Sequential(
            nn.Linear(12, 9),
            after_first,
            nn.ReLU(),
            nn.Sequential(nn.Linear(9, 8), after_second),
            nn.Linear(8, 4),
        ).double()
        evaluator = Evaluator(model, arsvd.spectra(model), *labelled)
        tuples = list(itertools.product((1, 2, None), (1, 2, 3, None), (1, 2)))
        evaluator.metrics(tuples)
        assert (len(after_first.rows), len(after_second.rows), evaluator.evaluated) == (3, 3 * 4, 3 * 4 * 2)

    def test_labels_are_read_once_and_scores_all_together(
        self, labelled: tuple[Tensor, Tensor], operations: Callable[[Callable[[], object]], Counter[str]]
    ) -> None:
        """Each number that the host reads is a wait for a GPU: a call has one, whatever it is asked for."""
        model = arsvd.MLP([12, 14, 4]).double()
        evaluator = Evaluator(model, arsvd.spectra(model), *labelled)
        first = operations(lambda: evaluator.metrics([(1, 1)]))
        later = operations(lambda: evaluator.metrics(itertools.product((2, 3, None), (1, 2, None))))
        waiting = ("aten::_local_scalar_dense", "aten::bincount", "aten::nonzero")
        smallest_and_largest_label = 2
        assert [first[name] for name in waiting] == [smallest_and_largest_label, 0, 0]
        assert [later[name] for name in waiting] == [0, 0, 0]
        assert later["aten::scatter_add_"] == 9


class TestOperatingPoints:
    def test_the_first_of_equal_plans_names_the_point(
        self, trained: nn.Module, validation: tuple[Tensor, Tensor]
    ) -> None:
        spectra = arsvd.spectra(trained)
        rules = [
            Ranks((3, 2, 2)),
            arsvd.Energy(1.0),
            arsvd.Fixed(1.0),
            Ranks((3, 2, 2), family="again"),
            Ranks((1, 1, 1)),
        ]
        points = Evaluator(trained, spectra, *validation).points([arsvd.plan(spectra, r) for r in rules])
        assert [(p.ranks, p.family) for p in points] == [
            ((3, 2, 2), "given"),
            ((None, None, None), "dense"),
            ((1, 1, 1), "given"),
        ]

    def test_the_dense_point_has_no_basis_and_no_threshold(
        self, trained: nn.Module, validation: tuple[Tensor, Tensor]
    ) -> None:
        spectra = arsvd.spectra(trained)
        plans = [arsvd.plan(spectra, arsvd.Energy(t)) for t in (1.0, 0.5)]
        dense, small = Evaluator(trained, spectra, *validation).points(plans)
        assert (dense.family, dense.basis, dense.threshold) == ("dense", None, None)
        assert (small.family, small.basis, small.threshold) == ("energy", "weight", 0.5)
        assert close(
            Metrics(dense.accuracy, dense.macro_f1, dense.loss), arsvd.evaluate(trained, *validation)
        )

    def test_json(self) -> None:
        point = OperatingPoint((3, None), 10, 8, 0.9, 0.8, 0.3, "energy", "weight", 0.5)
        values = point.to_dict()
        assert values["ranks"] == [3, None]
        assert OperatingPoint.from_dict(values) == point
        with pytest.raises(ValueError, match="not a whole operating point: unknown colour"):
            OperatingPoint.from_dict({**values, "colour": 1})
        with pytest.raises(ValueError, match="not a whole operating point: missing loss"):
            OperatingPoint.from_dict({k: v for k, v in values.items() if k != "loss"})
        assert replace(point, loss=0.1) != point


def test_metrics_are_plain_numbers(every_tuple: Callable[[Spectra], list[RankTuple]]) -> None:
    metrics = measure(torch.randn(5, 3), torch.tensor([0, 1, 2, 0, 1]))
    assert {type(v) for v in (metrics.accuracy, metrics.macro_f1, metrics.loss)} == {float}
    assert np.isfinite(metrics.loss)
