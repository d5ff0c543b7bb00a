"""From a configuration to a record: trained, measured, recovered; failures named and kept apart."""

import copy
import itertools
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from arsvd import evaluate, plan
from arsvd.data import Dataset
from arsvd.data.dataset import Split, describe
from arsvd.training import loop as training_loop
from sweeps.config import MemberConfig, SweepConfig
from sweeps.ledger.records import FAILED, FINISHED, RECOVERED, MemberRecord
from sweeps.trial import measurement as measurement_module
from sweeps.trial import packs as member_module
from sweeps.trial.packs import Outcome, Task, compatible, run_members
from sweeps.trial.points import make_rule
from sweeps.trial.weights import FITTED, MemberWeights
from sweeps.trial.workbench import Analysis, Workbench

Member = Callable[..., MemberConfig]
Run = Callable[..., list[Outcome]]
Trained = list[tuple[MemberRecord, MemberWeights]]


def test_records_are_complete(trained: Trained, digits: Dataset) -> None:
    assert [record.number for record, _ in trained] == [0, 1, 2, 3]
    for record, _ in trained:
        assert record.status == FINISHED
        assert record.key == record.config.key(digits.hash)
        assert set(record.curves) == {"train_loss", "validation_loss", "validation_accuracy", "lr"}
        assert all(len(curve) == record.config.epochs for curve in record.curves.values())
        assert set(record.seconds) == {"train", "spectra", "evaluate", "recover"}
        assert all(seconds >= 0 for seconds in record.seconds.values())
        assert set(record.baselines) == {"fixed", "weight energy"}
        again = MemberRecord.from_dict(json.loads(json.dumps(record.to_dict(), allow_nan=False)))
        assert again == record


def test_members_learn(trained: Trained) -> None:
    for record, _ in trained:
        assert record.dense is not None
        losses = record.curves["train_loss"]
        assert losses[-1] < losses[0] < 2.6  # ln 10 = 2.3 is guessing
        assert record.dense.accuracy == pytest.approx(record.curves["validation_accuracy"][-1])
    assert trained[0][0].dense.accuracy > 0.5  # type: ignore[union-attr]


def test_points_are_distinct_and_sensible(trained: Trained, digits: Dataset) -> None:
    for record, _ in trained:
        assert record.dense is not None
        widths = [digits.features, *record.config.hidden, 10]
        layers = list(itertools.pairwise(widths))
        assert record.dense.params == sum(a * b + b for a, b in layers)
        assert record.dense.macs == sum(a * b for a, b in layers)
        assert record.points[0] == record.dense
        identities = [(p.basis, p.ranks, p.family in FITTED and p.family) for p in record.points]
        assert len(set(identities)) == len(identities)
        for point in (*record.points, *record.baselines["fixed"], *record.baselines["weight energy"]):
            assert len(point.ranks) == len(layers)
            assert point.params <= record.dense.params  # break-even: no layer grows
            assert point.macs <= record.dense.macs
            assert 0 <= point.accuracy <= 1
            assert 0 <= point.macro_f1 <= 1
            assert math.isfinite(point.loss)
            # accuracies are counts of validation images
            count = point.accuracy * len(digits.validation)
            assert count == pytest.approx(round(count), abs=1e-6)
            dense = all(rank is None for rank in point.ranks)
            assert dense == (point.family == "dense") == (point.basis is None)


def test_the_asked_point_is_the_plan_at_the_configured_rule(trained: Trained, workbench: Workbench) -> None:
    compressed = 0
    for record, weights in trained:
        config = record.config
        chosen = plan(weights.spectra[config.basis], make_rule(config.rule, config.energy))
        assert record.asked is not None
        assert record.asked.ranks == chosen.ranks
        assert (record.asked.params, record.asked.macs) == (chosen.params, chosen.macs)
        if any(rank is not None for rank in chosen.ranks):
            compressed += 1
            asked = record.asked
            assert (asked.family, asked.basis, asked.threshold) == (config.rule, config.basis, config.energy)
            assert record.asked in record.points
    assert compressed >= 3


def test_entropy_is_measured_in_the_weight_basis_only(trained: Trained) -> None:
    families = {(p.family, p.basis) for record, _ in trained for p in record.points}
    assert ("entropy", "weight") in families
    assert ("entropy", "activation") not in families


def test_only_searched_bases_and_rules_join(
    run: Run, new_member: Member, new_config: Callable[..., SweepConfig]
) -> None:
    only = Analysis.from_config(new_config("compression.basis=weight", "compression.energy=0.9"))
    ((record, weights),) = run(new_member(basis="weight", energy=0.9, finetune_epochs=1), at=only)
    assert weights is not None
    assert set(weights.spectra) == {"weight"}
    assert {point.basis for point in record.points} == {None, "weight"}
    assert {p.threshold for p in record.points if p.family == "energy"} <= {0.9}
    assert set(record.baselines) == {"fixed", "weight energy"}


def test_recovered_points_never_change_the_dense_model(
    trained: Trained, run: Run, full_analysis: Analysis, workbench: Workbench
) -> None:
    record, weights = trained[0]
    recovered = [point for point in record.points if point.family == RECOVERED]
    assert 1 <= len(recovered) <= record.config.finetune_points
    ((plain, plain_weights),) = run(replace(record.config, finetune_epochs=0), at=full_analysis)
    assert plain_weights is not None
    for name, tensor in plain_weights.dense.state_dict().items():
        assert torch.equal(weights.dense.state_dict()[name], tensor), name
    assert plain.dense == record.dense
    assert plain.points == tuple(point for point in record.points if point.family != RECOVERED)
    assert record.dense is not None
    reached = evaluate(copy.deepcopy(weights.dense).to(workbench.device), *workbench.validation)
    assert reached.accuracy == record.dense.accuracy


def test_without_fine_tuning_there_are_no_recovered_points(trained: Trained) -> None:
    record, weights = trained[3]
    assert record.config.finetune_epochs == 0
    assert [point for point in record.points if point.family == RECOVERED] == []
    assert {family for family, _ in weights.fitted} <= {"refit"}


def test_fine_tuning_recovers_accuracy(run: Run, new_member: Member) -> None:
    ((record, _),) = run(
        new_member(hidden=[32, 32], epochs=6, finetune_epochs=4, finetune_points=3, finetune_lr=5e-3)
    )
    recovered = [point for point in record.points if point.family == RECOVERED]
    assert len(recovered) == 3
    gains = []
    for point in recovered:
        rivals = [p.accuracy for p in record.points if p.family != RECOVERED and p.params <= point.params]
        gains.append(point.accuracy - max(rivals))
    assert max(gains) > 0
    assert sum(gains) > 0


def test_the_same_seed_gives_the_same_member(
    run: Run, new_member: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    # with tf32 the order of summation is seen long before the last digits
    monkeypatch.setattr(training_loop, "default_precision", lambda device: "float32")
    config = new_member(hidden=[16, 16], energy=0.5, basis="weight", dropout=0.2, seed=2)
    ((_, weights),) = run(config)
    ((again, same), (other, _)) = run(config, replace(config, seed=99))
    assert weights is not None
    assert same is not None
    for name, tensor in same.dense.state_dict().items():
        # packed with another member: the same up to the order of summation
        assert torch.allclose(weights.dense.state_dict()[name], tensor, atol=1e-4), name
    assert again.dense is not None
    assert other.dense is not None
    assert again.dense.loss != other.dense.loss


def test_members_that_differ_in_kind_go_to_separate_packs(new_member: Member) -> None:
    base: dict[str, Any] = {"hidden": [16, 8]}
    fits = [
        {"hidden": [32, 64]},
        {"lr": 0.5},
        {"weight_decay": 0.5},
        {"dropout": 0.5},
        {"label_smoothing": 0.2},
        {"seed": 3},
        {"basis": "weight"},
        {"energy": 0.4},
        {"finetune_epochs": 3},
    ]
    splits: list[dict[str, Any]] = [
        {"hidden": [16]},
        {"hidden": [16, 8, 8]},
        {"factors": 2},
        {"batch_size": 32},
        {"epochs": 5},
        {"schedule": "cosine"},
        {"flip": True},
    ]
    tasks = [Task(n, new_member(**{**base, **change})) for n, change in enumerate([{}, *fits, *splits, {}])]
    groups = compatible(tasks)
    assert [len(group) for group in groups] == [len(fits) + 2, *[1] * len(splits)]
    assert sorted(task.number for group in groups for task in group) == list(range(len(tasks)))
    assert compatible([]) == []


def test_a_member_that_diverges_fails_with_its_cause_and_the_rest_of_its_pack_is_as_if_alone(
    run: Run, new_member: Member
) -> None:
    good = new_member(hidden=[16, 8], seed=5)
    bad = new_member(hidden=[16, 8], seed=6, lr=1e30)
    wide = new_member(hidden=[24, 24], seed=7)
    outcomes = run(good, bad, wide)
    assert [record.status for record, _ in outcomes] == [FINISHED, FAILED, FINISHED]
    failed, nothing = outcomes[1]
    assert nothing is None
    assert failed.cause is not None
    assert "the loss was not finite in epoch 1" in failed.cause
    assert "a lower learning rate may help" in failed.cause
    assert (failed.dense, failed.asked, failed.points, failed.weights_sha256) == (None, None, (), "")
    assert failed.config == bad
    json.dumps(failed.to_dict(), allow_nan=False)
    ((alone, _),) = run(good)
    packed, _ = outcomes[0]
    assert packed.curves["validation_loss"] == pytest.approx(alone.curves["validation_loss"], rel=1e-4)
    assert packed.key == alone.key


@pytest.mark.parametrize("lr", [1.0, 1e2, 1e5, 1e9, 1e15])
def test_however_badly_a_member_trains_its_record_can_be_filed(
    run: Run, new_member: Member, lr: float
) -> None:
    ((record, weights),) = run(new_member(lr=lr, epochs=1, finetune_epochs=1))
    json.dumps(record.to_dict(), allow_nan=False)
    assert (record.status == FINISHED) == (weights is not None) == (record.cause is None)


def test_a_pack_that_fails_as_a_whole_is_halved(
    run: Run, new_member: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = member_module.train
    sizes: list[int] = []

    def too_large(pack: Any, *arguments: Any, **keywords: Any) -> Any:
        sizes.append(pack.members)
        if pack.members > 1:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        if sizes.count(1) == 2:
            raise RuntimeError("the second member alone is too large as well")
        return real(pack, *arguments, **keywords)

    monkeypatch.setattr(member_module, "train", too_large)
    outcomes = run(*(new_member(seed=seed) for seed in range(3)))
    assert sizes == [3, 1, 2, 1, 1]
    assert [record.number for record, _ in outcomes] == [0, 1, 2]
    assert [record.status for record, _ in outcomes] == [FINISHED, FAILED, FINISHED]
    cause = outcomes[1][0].cause
    assert cause is not None
    assert cause.startswith("RuntimeError: the second member alone is too large as well\n")
    assert "too_large" in cause  # where it happened


def test_a_member_whose_measurement_fails_does_not_stop_its_pack(
    run: Run, new_member: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = measurement_module.factorise

    def broken(model: Any, config: MemberConfig, *rest: Any) -> Any:
        if config.seed == 1:
            raise ValueError("layer 'linear1' holds NaN")
        return real(model, config, *rest)

    monkeypatch.setattr(measurement_module, "factorise", broken)
    monkeypatch.setattr(member_module, "group_size", lambda device: 1)
    outcomes = run(*(new_member(seed=seed) for seed in range(3)))
    assert [record.status for record, _ in outcomes] == [FINISHED, FAILED, FINISHED]
    failed = outcomes[1][0]
    assert failed.cause is not None
    assert failed.cause.startswith("ValueError: layer 'linear1' holds NaN")
    assert len(failed.curves["train_loss"]) == 2  # it was trained, and that is kept


def test_members_come_as_soon_as_they_are_measured(
    new_member: Member, workbench: Workbench, analysis: Analysis
) -> None:
    epochs: list[tuple[list[int], int]] = []

    def trained(members: Sequence[int], epoch: int) -> None:
        epochs.append((list(members), epoch))

    tasks = [Task(n, new_member(hidden=hidden)) for n, hidden in enumerate(([8], [8], [8, 8]))]
    outcomes = run_members(tasks, workbench, analysis, on_epoch=trained)
    next(outcomes)
    assert epochs == [([0, 1], 1), ([0, 1], 2)]  # of the first pack; the second one has not begun
    assert len(list(outcomes)) == 2
    assert epochs[2:] == [([2], 1), ([2], 2)]


def test_an_interruption_does_not_count_as_a_members_failure(
    run: Run, new_member: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(member_module, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(new_member(), new_member(seed=1))


@pytest.fixture(scope="module")
def coloured() -> Dataset:
    """Three channels; each class has a colour, and a bright left side that a mirrored image has not."""
    generator = torch.Generator().manual_seed(0)

    def split(count: int) -> Split:
        labels = torch.arange(count) % 3
        images = torch.randint(0, 60, (count, 3, 4, 4), generator=generator, dtype=torch.uint8)
        images[torch.arange(count), labels, :, :2] += 180
        return Split(images, labels)

    return describe("colours", ("r", "g", "b"), split(240), split(60), split(60))


def test_colour_images_are_mirrored_and_grey_ones_are_not(
    run: Run, new_member: Member, digits: Dataset, coloured: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = member_module.train
    flips: list[bool] = []

    def noted(pack: Any, dataset: Any, members: Any, **keywords: Any) -> Any:
        flips.extend(member["training.flip"] for member in members)
        return real(pack, dataset, members, **keywords)

    monkeypatch.setattr(member_module, "train", noted)
    bench = Workbench(coloured, torch.device("cpu"))
    tiny = new_member(hidden=[8], epochs=1)
    run(tiny, bench=bench)
    run(replace(tiny, flip=False), bench=bench)
    run(tiny)
    run(replace(tiny, flip=True))
    assert flips == [True, False, False, True]


def test_members_that_see_mirrored_images_know_them(run: Run, new_member: Member, coloured: Dataset) -> None:
    bench = Workbench(coloured, torch.device("cpu"))
    mirrored = bench.validation[0].reshape(-1, 3, 4, 4).flip(-1).flatten(1)
    losses = []
    for flip in (None, False):
        ((record, weights),) = run(
            new_member(hidden=[16], epochs=4, flip=flip, finetune_epochs=1), bench=bench
        )
        assert weights is not None, record.cause
        assert any(point.family == RECOVERED for point in record.points)
        losses.append(evaluate(weights.dense, mirrored, bench.validation[1]).loss)
    assert losses[0] < losses[1]


def test_calibration_uses_training_images_only_and_always_the_same(workbench: Workbench) -> None:
    chosen = workbench.calibration(100)
    assert chosen.shape == (100, workbench.dataset.features)
    again = Workbench(workbench.dataset.to(torch.device("cpu")), torch.device("cpu")).calibration(100)
    torch.testing.assert_close(chosen.cpu(), again, rtol=0, atol=1e-6)
    training = {tuple(row) for row in workbench.dataset.train.images.flatten(1).tolist()}
    mean, std = workbench.dataset.mean[0], workbench.dataset.std[0]
    pixels = ((chosen * std + mean) * 255).round().int()
    assert all(tuple(row) in training for row in pixels.tolist())
    assert len(workbench.calibration(10**6)) == len(workbench.dataset.train)


def test_an_analysis_holds_what_the_sweep_file_says(new_config: Callable[..., SweepConfig]) -> None:
    found = Analysis.from_config(
        new_config("compression.energy={range: [0.5, 0.9], points: 3}", "select.max_drop=0.01")
    )
    assert found.bases == ("loss", "activation")
    assert found.main_basis == "loss"
    assert found.rules == ("energy",)
    assert found.families == ("threshold", "budget", "sensitivity", "local", "refit")
    assert found.max_drop == 0.01
    assert found.thresholds == pytest.approx((0.5, 1 - math.sqrt(0.05), 0.9))
