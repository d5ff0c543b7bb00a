"""A CUDA device that breaks ends the process's trial; what it was given is no members' failure."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from arsvd.data import Dataset
from arsvd.training import Pack, TrainingResult, dense_architecture
from sweeps.config import MemberConfig
from sweeps.ledger.records import FAILED
from sweeps.trial import measurement as measurement_module
from sweeps.trial import packs as member_module
from sweeps.trial.measurement import Measurement
from sweeps.trial.packs import Outcome, Task, run_members
from sweeps.trial.workbench import Analysis, Workbench

Member = Callable[..., MemberConfig]
Run = Callable[..., list[Outcome]]


class BrokenDevice:
    """A CUDA device on which something fails; `context` says whether the process can go on with it."""

    def __init__(self, digits: Dataset, monkeypatch: pytest.MonkeyPatch, context: Exception | None) -> None:
        self.bench = Workbench(digits, torch.device("cpu"))
        self.bench.device = torch.device("cuda")
        self.synchronized: list[torch.device] = []

        def synchronize(device: torch.device) -> None:
            self.synchronized.append(device)
            if context is not None:
                raise context

        monkeypatch.setattr(torch.cuda, "synchronize", synchronize)


ILLEGAL = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
TOO_LITTLE = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def raising(error: Exception) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


def test_a_broken_device_in_training_does_not_count_as_a_members_failure(
    run: Run, new_member: Member, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = BrokenDevice(digits, monkeypatch, ILLEGAL)
    monkeypatch.setattr(member_module._Runner, "_train", raising(ILLEGAL))
    with pytest.raises(torch.AcceleratorError, match="illegal memory access"):
        run(new_member(), new_member(seed=1), bench=broken.bench)
    assert broken.synchronized == [torch.device("cuda")]


class Trained:
    """Two members after their training, whose measurement is only what a test puts in its place."""

    def __init__(self, digits: Dataset, monkeypatch: pytest.MonkeyPatch, context: Exception | None) -> None:
        self.device = BrokenDevice(digits, monkeypatch, context)
        pack = Pack.from_seeds([dense_architecture([64, 16, 8, 10])] * 2, [0, 1])
        monkeypatch.setattr(member_module._Runner, "_train", lambda *_: (pack, TrainingResult.empty(2)))
        monkeypatch.setattr(Measurement, "take", lambda _, member, model: setattr(member, "model", None))
        for step in ("search", "refit", "recover"):
            monkeypatch.setattr(Measurement, step, lambda *_: None)
        monkeypatch.setattr(Measurement, "outcome", lambda _, member: (member.number, member.cause))


def test_a_broken_device_in_measurement_does_not_count_as_a_members_failure(
    new_member: Member, digits: Dataset, analysis: Analysis, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = Trained(digits, monkeypatch, ILLEGAL)
    factorised = iter([lambda *_: {}, raising(ILLEGAL)])
    monkeypatch.setattr(member_module, "group_size", lambda _: 1)
    monkeypatch.setattr(measurement_module, "factorise", lambda *arguments: next(factorised)(*arguments))
    outcomes = run_members([Task(n, new_member(seed=n)) for n in range(2)], trained.device.bench, analysis)
    assert next(outcomes) == (0, None)  # what was measured before is filed
    with pytest.raises(torch.AcceleratorError, match="illegal memory access"):
        next(outcomes)


def test_a_broken_device_in_joint_measurement_does_not_count_as_a_members_failure(
    new_member: Member, digits: Dataset, analysis: Analysis, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = Trained(digits, monkeypatch, ILLEGAL)
    monkeypatch.setattr(measurement_module, "factorise_together", raising(ILLEGAL))
    with pytest.raises(torch.AcceleratorError, match="illegal memory access"):
        list(run_members([Task(n, new_member(seed=n)) for n in range(2)], trained.device.bench, analysis))


def test_too_little_memory_for_all_members_together_lets_each_go_on_alone(
    new_member: Member, digits: Dataset, analysis: Analysis, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = Trained(digits, monkeypatch, None)
    factorised = iter([lambda *_: {}, raising(TOO_LITTLE)])
    monkeypatch.setattr(measurement_module, "factorise_together", raising(TOO_LITTLE))
    monkeypatch.setattr(measurement_module, "factorise", lambda *arguments: next(factorised)(*arguments))
    tasks = [Task(n, new_member(seed=n)) for n in range(2)]
    (first, second) = run_members(tasks, trained.device.bench, analysis)
    assert first == (0, None)
    assert "OutOfMemoryError: CUDA out of memory" in str(second[1])
    assert trained.device.synchronized == [torch.device("cuda")] * 2  # for both together and for the second


def test_too_little_memory_leaves_a_device_in_order(
    run: Run, new_member: Member, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = BrokenDevice(digits, monkeypatch, None)
    monkeypatch.setattr(member_module._Runner, "_train", raising(TOO_LITTLE))
    outcomes = run(new_member(), new_member(seed=1), bench=device.bench)
    assert [record.status for record, _ in outcomes] == [FAILED, FAILED]
    assert all((record.cause or "").startswith("OutOfMemoryError: CUDA out of") for record, _ in outcomes)
    assert device.synchronized == [torch.device("cuda")] * 3  # for the pack and for each member alone
