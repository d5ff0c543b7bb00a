"""A CUDA device that breaks ends the process's trial; what it was given is no members' failure."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from arsvd.data import Dataset
from arsvd.training import Pack, TrainingResult, dense_architecture
from sweeps.config import MemberConfig
from sweeps.records import FAILED, FINISHED, MemberRecord
from sweeps.trial import member as member_module
from sweeps.trial.member import Outcome, Task, run_members
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


def test_a_broken_device_in_training_is_no_members_failure(
    run: Run, new_member: Member, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = BrokenDevice(digits, monkeypatch, ILLEGAL)
    monkeypatch.setattr(member_module._Runner, "_train", raising(ILLEGAL))
    with pytest.raises(torch.AcceleratorError, match="illegal memory access"):
        run(new_member(), new_member(seed=1), bench=broken.bench)
    assert broken.synchronized == [torch.device("cuda")]


def test_a_broken_device_in_measurement_is_no_members_failure(
    new_member: Member, digits: Dataset, analysis: Analysis, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = BrokenDevice(digits, monkeypatch, ILLEGAL)
    pack = Pack.from_seeds([dense_architecture([64, 16, 8, 10])] * 2, [0, 1])
    result = TrainingResult.empty(2)
    monkeypatch.setattr(member_module._Runner, "_train", lambda *_: (pack, result))
    done: Outcome = (MemberRecord("first", 0, FINISHED, None, new_member()), None)
    measured = iter([lambda *_: done, raising(ILLEGAL)])
    monkeypatch.setattr(member_module, "_measure", lambda *arguments: next(measured)(*arguments))
    outcomes = run_members([Task(n, new_member(seed=n)) for n in range(2)], broken.bench, analysis)
    assert next(outcomes) == done  # what was measured before is filed
    with pytest.raises(torch.AcceleratorError, match="illegal memory access"):
        next(outcomes)


def test_too_little_memory_leaves_a_device_in_order(
    run: Run, new_member: Member, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = BrokenDevice(digits, monkeypatch, None)
    monkeypatch.setattr(member_module._Runner, "_train", raising(TOO_LITTLE))
    outcomes = run(new_member(), new_member(seed=1), bench=device.bench)
    assert [record.status for record, _ in outcomes] == [FAILED, FAILED]
    assert all((record.cause or "").startswith("OutOfMemoryError: CUDA out of") for record, _ in outcomes)
    assert device.synchronized == [torch.device("cuda")] * 3  # for the pack and for each member alone
