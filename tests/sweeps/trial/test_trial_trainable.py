"""The trial files what it trains, once, and takes pack after pack in one process."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from arsvd.data import Dataset, load
from sweeps.config import MemberConfig, SweepConfig
from sweeps.ledger.ledger import Ledger
from sweeps.ledger.records import FAILED, FINISHED
from sweeps.ledger.storage import file_sha256
from sweeps.trial.trainable import PackTrainable
from sweeps.trial.weights import load_member, model_ranks
from sweeps.trial.workbench import Analysis

Member = Callable[..., MemberConfig]


@pytest.fixture
def ledger(tmp_path: Path, new_config: Callable[..., SweepConfig], digits: Dataset) -> Ledger:
    return Ledger.create(tmp_path, new_config(), digits, (17_226, 17_024))


@pytest.fixture
def trial(ledger: Ledger, digits: Dataset, analysis: Analysis) -> Callable[..., PackTrainable]:
    """Start a trial as Tune does, with the constant arguments bound."""

    class Bound(PackTrainable):
        def setup(self, config: dict[str, Any]) -> None:  # type: ignore[override]
            arrays = digits.to_numpy()
            for value in arrays.values():
                if hasattr(value, "setflags"):  # an object store hands out read-only arrays
                    value.setflags(write=False)
            super().setup(config, data=arrays, analysis=analysis, ledger=str(ledger.path), threads=1)

    return lambda *members: Bound(config=pack(*members))


def pack(*members: tuple[int, MemberConfig]) -> dict[str, Any]:
    data_hash = load("digits", validation=0.2).hash
    return {
        "members": [
            {"number": number, "key": member.key(data_hash), "config": member.to_dict()}
            for number, member in members
        ]
    }


def stamps(ledger: Ledger) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (ledger.path / "members").iterdir()}


def test_a_pack_is_filed_with_its_weights(
    trial: Callable[..., PackTrainable], ledger: Ledger, new_member: Member, digits: Dataset
) -> None:
    members = [(4, new_member(seed=4)), (9, new_member(seed=9, lr=1e30)), (11, new_member(hidden=[8]))]
    result = trial(*members).step()
    assert torch.get_num_threads() == 1
    assert result == {"keys": [member.key(digits.hash) for _, member in members], "done": True}
    records = ledger.members()
    assert [record.number for record in records] == [4, 9, 11]
    assert [record.status for record in records] == [FINISHED, FAILED, FINISHED]
    for record in records:
        path = ledger.weights(record.key)
        assert path.exists() == (record.status == FINISHED)
        if path.exists():
            assert record.weights_sha256 == file_sha256(path)
            assert model_ranks(load_member(path).dense) == (None,) * (len(record.config.hidden) + 1)
    assert len(list((ledger.path / "members").iterdir())) == 5  # nothing temporary is left


def test_the_same_process_takes_pack_after_pack(
    trial: Callable[..., PackTrainable], ledger: Ledger, new_member: Member
) -> None:
    running = trial((0, new_member(seed=0)))
    running.step()
    assert running.reset_config(pack((1, new_member(seed=1)), (2, new_member(seed=2))))
    running.step()
    assert [record.number for record in ledger.members()] == [0, 1, 2]


def test_members_on_file_are_not_trained_again(
    trial: Callable[..., PackTrainable], ledger: Ledger, new_member: Member, digits: Dataset
) -> None:
    members = [(number, new_member(seed=number)) for number in range(3)]
    first = trial(*members)
    first.step()
    before = stamps(ledger)
    assert len(before) == 6
    # the process died after the weights of the last member and before its record
    key = members[2][1].key(digits.hash)
    (ledger.path / "members" / f"{key}.json").unlink()
    result = trial(*members).step()
    after = stamps(ledger)
    assert len(result["keys"]) == 3
    assert set(after) == set(before)
    assert {name for name in before if before[name] != after[name]} == {f"{key}.json", f"{key}.safetensors"}
    assert [record.number for record in ledger.members()] == [0, 1, 2]


@pytest.mark.parametrize("seen", [True, False], ids=["torch sees a GPU", "torch sees none"])
def test_a_trial_without_a_gpu_trains_on_the_cpu(
    trial: Callable[..., PackTrainable], new_member: Member, seen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: seen)
    assert trial((0, new_member()))._workbench.device == torch.device("cpu")


def test_a_gpu_that_torch_cannot_use_is_refused(
    ledger: Ledger, digits: Dataset, analysis: Analysis, new_member: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Bound(PackTrainable):
        def setup(self, config: dict[str, Any]) -> None:  # type: ignore[override]
            super().setup(config, digits.to_numpy(), analysis, str(ledger.path), threads=1, gpu=True)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RuntimeError, match=r"torch cannot use .* resources\.gpu=0 trains on the CPU"):
        Bound(config=pack((0, new_member())))


def test_a_member_that_is_twice_in_a_pack_is_trained_once(
    trial: Callable[..., PackTrainable], ledger: Ledger, new_member: Member, digits: Dataset
) -> None:
    result = trial((3, new_member()), (5, new_member())).step()
    assert result["keys"] == [new_member().key(digits.hash)]
    assert len(ledger.members()) == 1
