"""Members that are measured together, as on a GPU: the same records as one by one."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from arsvd import OperatingPoint
from arsvd.evaluation import lockstep
from arsvd.evaluation.evaluator import Evaluator
from sweeps.config import MemberConfig
from sweeps.ledger.records import FAILED, FINISHED, MemberRecord
from sweeps.trial import measurement as measurement_module
from sweeps.trial import packs as member_module
from sweeps.trial import recovery
from sweeps.trial.measurement import TOGETHER, Outcome, group_size
from sweeps.trial.workbench import Analysis

NewMember = Callable[..., MemberConfig]
Run = Callable[..., list[Outcome]]


@pytest.fixture(scope="module", autouse=True)
def _every_size_is_fine_tuned() -> Iterator[None]:
    """Which sizes are worth it depends on who was measured before, and so on the groups."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recovery, "promising", lambda member, _, analysis, __: recovery.sizes(member, analysis))
        yield


@pytest.fixture
def together(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let members be measured in groups of a size, on the CPU as well."""
    return lambda size: monkeypatch.setattr(member_module, "group_size", lambda _: size)


def test_a_gpu_measures_several_members_together_and_a_cpu_one_by_one() -> None:
    assert group_size(torch.device("cuda")) == TOGETHER > 1
    assert group_size(torch.device("cpu")) == 1


def assert_points(ours: tuple[OperatingPoint, ...], theirs: tuple[OperatingPoint, ...], images: int) -> None:
    assert [replace(p, accuracy=0.0, macro_f1=0.0, loss=0.0) for p in ours] == [
        replace(p, accuracy=0.0, macro_f1=0.0, loss=0.0) for p in theirs
    ]
    for a, b in zip(ours, theirs, strict=True):
        # two logits may be equal up to rounding, and then one image counts for another class
        assert a.accuracy == pytest.approx(b.accuracy, abs=1.5 / images), a
        assert a.macro_f1 == pytest.approx(b.macro_f1, abs=0.01), a
        assert a.loss == pytest.approx(b.loss, rel=1e-4), a


def assert_record(ours: MemberRecord, theirs: MemberRecord, images: int) -> None:
    assert (ours.key, ours.number, ours.status, ours.cause) == (
        theirs.key,
        theirs.number,
        theirs.status,
        theirs.cause,
    )
    assert ours.config == theirs.config
    assert ours.curves == theirs.curves
    assert ours.dense is not None
    assert theirs.dense is not None
    assert ours.asked is not None
    assert theirs.asked is not None
    assert_points((ours.dense, ours.asked), (theirs.dense, theirs.asked), images)
    assert_points(ours.points, theirs.points, images)
    assert ours.baselines.keys() == theirs.baselines.keys()
    for name, points in ours.baselines.items():
        assert_points(points, theirs.baselines[name], images)
    assert set(ours.seconds) == set(theirs.seconds)


@pytest.fixture(scope="module")
def members(new_member: NewMember) -> list[MemberConfig]:
    """Members of one pack that differ wherever members of a pack can."""
    return [
        new_member(hidden=[24, 16], basis="loss", seed=1),
        new_member(hidden=[16, 16], basis="weight", energy=0.5, seed=2, calibration=500),
        new_member(hidden=[32, 8], seed=3, finetune_epochs=1),
        new_member(hidden=[24, 16], seed=4, energy=0.8),
    ]


@pytest.fixture(scope="module")
def one_by_one(run: Run, members: list[MemberConfig], full_analysis: Analysis) -> list[Outcome]:
    return run(*members, at=full_analysis)


@pytest.mark.parametrize("size", [64, 3])
def test_records_are_those_of_members_measured_one_by_one(
    run: Run,
    members: list[MemberConfig],
    one_by_one: list[Outcome],
    full_analysis: Analysis,
    together: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
    size: int,
) -> None:
    together(size)
    measured: list[int] = []
    real = lockstep.measure_together

    def noted(wanted: Any) -> None:
        measured.append(len({id(evaluator.model) for evaluator, _ in wanted}))
        real(wanted)

    monkeypatch.setattr(lockstep, "measure_together", noted)
    found = run(*members, at=full_analysis)
    assert max(measured) == min(size, len(members))
    for (record, weights), (expected, theirs) in zip(found, one_by_one, strict=True):
        assert_record(record, expected, 360)
        assert weights is not None
        assert theirs is not None
        assert weights.spectra.keys() == theirs.spectra.keys()
        assert weights.fitted.keys() == theirs.fitted.keys()
    seconds = [record.seconds for record, _ in found]
    first = seconds[: min(size, len(members))]
    assert len({each["spectra"] for each in first}) == 1  # each has its share


def test_members_are_not_measured_alone(
    run: Run,
    members: list[MemberConfig],
    full_analysis: Analysis,
    together: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    together(64)
    monkeypatch.setattr(Evaluator, "_stages", property(lambda _: pytest.fail("an evaluator walks alone")))
    families = ("threshold", "budget", "sensitivity", "local")
    found = run(*members, at=replace(full_analysis, families=families))
    assert [record.cause for record, _ in found] == [None] * 4


def test_members_whose_training_failed_keep_their_place(
    run: Run, new_member: NewMember, together: Callable[[int], None]
) -> None:
    together(64)
    members = [new_member(seed=5), new_member(seed=6, lr=1e30), new_member(seed=7)]
    outcomes = run(*members)
    assert [record.status for record, _ in outcomes] == [FINISHED, FAILED, FINISHED]
    assert [record.number for record, _ in outcomes] == [0, 1, 2]
    assert "the loss was not finite" in (outcomes[1][0].cause or "")


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ("factorise", "layer 'linear1' is odd"),
        ("measuring", "no such rank"),
        ("recover", "no teacher"),
    ],
)
def test_a_member_that_cannot_be_measured_fails_alone(
    run: Run,
    new_member: NewMember,
    together: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    message: str,
) -> None:
    together(64)
    real = getattr(measurement_module, step)

    def broken(*arguments: Any) -> Any:
        given = [argument.config for argument in arguments[0]] if step == "recover" else arguments
        if not any(isinstance(config, MemberConfig) and config.seed == 1 for config in given):
            return real(*arguments)
        if step == "measuring":
            return failing_steps(message)
        raise ValueError(message)

    def together_breaks(*_: Any) -> Any:
        raise ValueError("one of them holds NaN")

    monkeypatch.setattr(measurement_module, step, broken)
    if step == "factorise":
        monkeypatch.setattr(measurement_module, "factorise_together", together_breaks)
    outcomes = run(*(new_member(seed=seed) for seed in range(3)))
    assert [record.status for record, _ in outcomes] == [FINISHED, FAILED, FINISHED]
    assert (outcomes[1][0].cause or "").startswith(f"ValueError: {message}")


def failing_steps(message: str) -> Any:
    yield []
    raise ValueError(message)


def test_members_that_cannot_be_measured_together_are_measured_one_by_one(
    run: Run,
    members: list[MemberConfig],
    one_by_one: list[Outcome],
    full_analysis: Analysis,
    together: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    together(64)

    def too_large(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(lockstep, "measure_together", too_large)
    monkeypatch.setattr(measurement_module, "factorise_together", too_large)
    with caplog.at_level(logging.WARNING, logger="sweeps.trial.measurement"):
        found = run(*members, at=full_analysis)
    assert caplog.messages == ["members are measured one by one: CUDA out of memory"] * 2
    for (record, _), (expected, _) in zip(found, one_by_one, strict=True):
        # on a GPU the other members were measured together
        assert_points(record.points, expected.points, 360)
        assert record.baselines.keys() == expected.baselines.keys()
        for name, points in record.baselines.items():
            assert_points(points, expected.baselines[name], 360)
