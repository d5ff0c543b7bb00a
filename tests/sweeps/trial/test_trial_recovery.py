"""Recovery over a pack: together as alone, in bounded trainings, and only where it may move the front."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from arsvd import MLP, OperatingPoint, Plan, evaluate
from arsvd.evaluation.lockstep import alone
from arsvd.training import Hyperparameters, Pack, dense_architecture, train
from sweeps.config import MemberConfig
from sweeps.ledger.best_so_far import BestSoFar
from sweeps.ledger.records import RECOVERED
from sweeps.trial import recovery
from sweeps.trial.points import factorise, measuring, with_models
from sweeps.trial.recovery import Trained, recover
from sweeps.trial.workbench import Analysis, Workbench

Recovered = list[dict[OperatingPoint, MLP]]


@pytest.fixture(scope="module")
def pair(workbench: Workbench, analysis: Analysis, new_member: Callable[..., MemberConfig]) -> list[Trained]:
    """Two trained members of one pack, of other widths and fine-tuning rates."""
    configs = [
        new_member(hidden=hidden, seed=seed, epochs=4, finetune_epochs=2, finetune_points=4, finetune_lr=lr)
        for seed, (hidden, lr) in enumerate((([32, 24], 3e-3), ([24, 24], 1e-3)))
    ]
    dataset = workbench.dataset
    widths = [[dataset.features, *config.hidden, 10] for config in configs]
    pack = Pack.from_seeds([dense_architecture(w) for w in widths], [0, 1], workbench.device)
    train(pack, dataset, [Hyperparameters(lr=1e-2, seed=s) for s in (0, 1)], epochs=4, batch_size=64)
    members = []
    for position, config in enumerate(configs):
        model = pack.model(position, merge=True).to(workbench.device)
        found = factorise(model, config, analysis, workbench)
        measured = alone(measuring(model, found, config, analysis, workbench))
        members.append(Trained(model, with_models(model, measured, config, analysis, workbench), config))
    return members


def summary(recovered: Recovered) -> list[list[tuple[tuple[int | None, ...], float, float]]]:
    return [[(p.ranks, p.accuracy, p.loss) for p in sorted(points, key=str)] for points in recovered]


def same(one: Recovered, other: Recovered) -> None:
    for mine, theirs in zip(summary(one), summary(other), strict=True):
        assert [entry[0] for entry in mine] == [entry[0] for entry in theirs]
        for (_, accuracy, loss), (_, wanted, wanted_loss) in zip(mine, theirs, strict=True):
            assert accuracy == pytest.approx(wanted, abs=0.011)  # three of 288 images
            assert loss == pytest.approx(wanted_loss, rel=1e-2)


@pytest.fixture
def fresh() -> BestSoFar:
    return BestSoFar()


def each_for_itself(members: list[Trained], *arguments: object) -> Recovered:
    return [recover([member], *arguments)[0] for member in members]  # type: ignore[arg-type]


def test_a_member_that_nothing_beats_is_fine_tuned_at_every_size(
    pair: list[Trained], analysis: Analysis, workbench: Workbench, fresh: BestSoFar
) -> None:
    for member, found in zip(pair, each_for_itself(pair, analysis, workbench, False, fresh), strict=True):
        assert 1 <= len(found) <= member.config.finetune_points
        for point, model in found.items():
            assert point.family == RECOVERED
            metrics = evaluate(model.to(workbench.device), *workbench.validation)
            assert (point.accuracy, point.loss) == (metrics.accuracy, pytest.approx(metrics.loss))
            assert point.params == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("flip", [False, True], ids=["plain", "flips"])
@pytest.mark.parametrize("most", [1, 3, 100])
def test_members_are_recovered_together_as_alone(
    pair: list[Trained],
    analysis: Analysis,
    workbench: Workbench,
    fresh: BestSoFar,
    most: int,
    flip: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recovery, "promising", every_size)
    single = each_for_itself(pair, analysis, workbench, flip, fresh)
    monkeypatch.setattr(recovery, "_MOST_ON_CPU", most)
    together = recover(pair, analysis, workbench, flip, fresh)
    assert sum(map(len, together)) >= 4
    same(together, single)


def every_size(member: Trained, rivals: BestSoFar, analysis: Analysis, images: int) -> list[Plan]:
    return recovery.sizes(member, analysis)


def test_teachers_memory_bounds_a_training(
    pair: list[Trained],
    analysis: Analysis,
    workbench: Workbench,
    fresh: BestSoFar,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes: list[int] = []
    trained = recovery.train

    def watched(pack: Pack, *arguments: object, **keywords: object) -> object:
        sizes.append(pack.members)
        return trained(pack, *arguments, **keywords)  # type: ignore[arg-type]

    monkeypatch.setattr(recovery, "train", watched)
    monkeypatch.setattr(recovery, "promising", every_size)
    whole = recover(pair, analysis, workbench, False, fresh)
    assert max(sizes) > 2
    sizes.clear()
    monkeypatch.setattr(recovery, "_TEACHER_NUMBERS", 2 * 10 * len(workbench.dataset.train))
    same(recover(pair, analysis, workbench, False, fresh), whole)
    assert max(sizes) == 2


def test_sizes_behind_by_more_than_a_standard_error_are_left_out(
    pair: list[Trained], analysis: Analysis, workbench: Workbench, fresh: BestSoFar
) -> None:
    member = pair[0]
    whole = recover([member], analysis, workbench, False, fresh)[0]
    images = len(workbench.validation[1])
    chosen = sorted(whole, key=lambda point: point.params)
    own = BestSoFar()
    own.add_points(member.measured.points)
    size = chosen[-1].params
    accuracy = own.accuracy(size)
    step = 1 / images
    # the smallest and the largest accuracy of a rival at that size, around the one standard error
    ahead = [accuracy + step * n for n in range(images) if accuracy + step * n <= 1]
    lets = [a for a in ahead if accuracy >= a - math.sqrt(a * (1 - a) / images)]
    assert 1 < len(lets) < len(ahead)
    for rival, kept in ((lets[-1], True), (ahead[len(lets)], False)):
        found = recover([member], analysis, workbench, False, BestSoFar([(size, rival)]))[0]
        assert (size in {point.params for point in found}) == kept
        # a rival of that size says nothing of smaller ones
        assert {p.params for p in found} >= {p.params for p in chosen[:-1]}


def test_members_of_a_pack_are_rivals(
    pair: list[Trained], analysis: Analysis, workbench: Workbench, fresh: BestSoFar
) -> None:
    better = replace(
        pair[1],
        measured=replace(
            pair[1].measured, points=tuple(replace(p, accuracy=1.0) for p in pair[1].measured.points)
        ),
    )
    left, _ = recover([pair[0], better], analysis, workbench, False, fresh)
    smallest = min(point.params for point in better.measured.points)
    assert all(point.params < smallest for point in left)


def test_nothing_is_fine_tuned_where_nothing_is_requested(
    pair: list[Trained], analysis: Analysis, workbench: Workbench, fresh: BestSoFar
) -> None:
    off = [replace(member, config=replace(member.config, finetune_epochs=0)) for member in pair]
    assert recover(off, analysis, workbench, False, fresh) == [{}, {}]
    assert recover([], analysis, workbench, False, fresh) == []


def test_the_teachers_stay_as_they_were(
    pair: list[Trained], analysis: Analysis, workbench: Workbench, fresh: BestSoFar
) -> None:
    before = [{n: t.clone() for n, t in member.model.state_dict().items()} for member in pair]
    recover(pair, analysis, workbench, False, fresh)
    for member, state in zip(pair, before, strict=True):
        assert all(torch.equal(state[name], t) for name, t in member.model.state_dict().items())
