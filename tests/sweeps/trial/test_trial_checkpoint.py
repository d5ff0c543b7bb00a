"""Members that were cut off go on where their checkpoints are, whoever is in their pack then."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from arsvd.data import Dataset
from arsvd.training import MemberState
from sweeps.config import MemberConfig, SweepConfig
from sweeps.ledger.ledger import Ledger
from sweeps.ledger.records import FINISHED
from sweeps.trial.checkpoint import Checkpoints
from sweeps.trial.packs import Outcome, Task, run_members
from sweeps.trial.trainable import PackTrainable
from sweeps.trial.workbench import Analysis, Workbench

Member = Callable[..., MemberConfig]
EPOCHS, BATCH = 5, 256


class CutOffError(BaseException):
    """Ends a training as a signal does."""


@pytest.fixture
def ledger(tmp_path: Path, new_config: Callable[..., SweepConfig], digits: Dataset) -> Ledger:
    return Ledger.create(tmp_path, new_config(), digits, (17_226, 17_024))


@pytest.fixture
def members(new_member: Member) -> list[Task]:
    return [Task(n, new_member(seed=n, epochs=EPOCHS, dropout=0.1 * n, batch_size=BATCH)) for n in range(3)]


@pytest.fixture
def train(workbench: Workbench, analysis: Analysis, ledger: Ledger) -> Callable[..., list[Outcome]]:
    """Train with a checkpoint after each step; `stop` cuts off at an epoch, `epochs` counts them."""

    def run(tasks: list[Task], epochs: list[int], stop: int | None = None) -> list[Outcome]:
        def count(members: Sequence[int], epoch: int) -> None:
            epochs.append(len(members))
            if len(epochs) == stop:
                raise CutOffError

        return list(run_members(tasks, workbench, analysis, Checkpoints(ledger, 0.0), on_epoch=count))

    return run


def state_of(ledger: Ledger, task: Task, digits: Dataset) -> MemberState:
    content = ledger.read_checkpoint(task.config.key(digits.hash))
    assert content is not None
    return MemberState.from_bytes(content)


def assert_equal_outcomes(first: list[Outcome], second: list[Outcome]) -> None:
    for (record, weights), (other, others) in zip(first, second, strict=True):
        assert record.status == other.status == FINISHED
        assert weights is not None
        assert others is not None
        for name, tensor in weights.dense.state_dict().items():
            assert torch.equal(tensor, others.dense.state_dict()[name]), name
        assert record.curves == other.curves
        assert (record.key, record.points) == (other.key, other.points)


def test_an_interrupted_pack_ends_as_one_that_was_not_interrupted(
    train: Callable[..., list[Outcome]],
    members: list[Task],
    workbench: Workbench,
    analysis: Analysis,
    ledger: Ledger,
    digits: Dataset,
) -> None:
    whole = list(run_members(members, workbench, analysis))
    with pytest.raises(CutOffError):
        train(members, [], stop=3)
    steps = {state_of(ledger, task, digits).steps for task in members}
    an_epoch = len(digits.train.labels) // BATCH
    assert steps == {3 * an_epoch - 1}  # the step before the end of the third epoch
    epochs: list[int] = []
    resumed = train(members, epochs)
    assert epochs == [3, 3, 3]  # the third epoch's end, the fourth and the fifth
    assert_equal_outcomes(whole, resumed)
    for record, _ in resumed:
        assert record.seconds["train"] > 0


def test_members_at_different_steps_train_apart(
    train: Callable[..., list[Outcome]], members: list[Task], ledger: Ledger, digits: Dataset
) -> None:
    with pytest.raises(CutOffError):
        train(members[:1], [], stop=4)
    with pytest.raises(CutOffError):
        train(members[1:2], [], stop=2)
    epochs: list[int] = []
    outcomes = train(members, epochs)
    assert [record.status for record, _ in outcomes] == [FINISHED] * 3
    assert all(len(record.curves["lr"]) == EPOCHS for record, _ in outcomes)
    assert epochs == [1] * (2 + 4 + 5)


def test_a_pack_that_is_halved_goes_on_from_its_checkpoints(
    workbench: Workbench, analysis: Analysis, members: list[Task], ledger: Ledger
) -> None:
    """The whole pack fails in its third epoch, as when another process takes the device's memory."""
    epochs: list[int] = []

    def too_large(members: Sequence[int], epoch: int) -> None:
        epochs.append(len(members))
        if epochs == [3, 3, 3]:
            raise RuntimeError("out of memory")

    outcomes = list(run_members(members, workbench, analysis, Checkpoints(ledger, 0.0), on_epoch=too_large))
    assert epochs == [3, 3, 3, 1, 1, 1, 2, 2, 2]
    assert [record.status for record, _ in outcomes] == [FINISHED] * 3


def damaged(content: bytes) -> bytes:
    return content[:-8] + bytes(byte ^ 1 for byte in content[-8:])


def of_a_shorter_training(content: bytes) -> bytes:
    state = MemberState.from_bytes(content)
    state.settings["epochs"] = 2
    return state.to_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(damaged, "its checkpoint is of no use: a training state is damaged", id="damaged"),
        pytest.param(lambda content: content[:100], "is not whole", id="cut"),
        pytest.param(lambda _: b"", "of no use: a training state", id="empty"),
        pytest.param(of_a_shorter_training, "of another training: it differs in epochs", id="another"),
    ],
)
def test_a_checkpoint_that_is_of_no_use_is_logged_and_the_member_begins_anew(
    train: Callable[..., list[Outcome]],
    members: list[Task],
    ledger: Ledger,
    digits: Dataset,
    change: Callable[[bytes], bytes],
    message: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(CutOffError):
        train(members[:1], [], stop=3)
    key = members[0].config.key(digits.hash)
    content = ledger.read_checkpoint(key)
    assert content is not None
    ledger.write_checkpoint(key, change(content))
    epochs: list[int] = []
    with caplog.at_level(logging.WARNING):
        ((record, _),) = train(members[:1], epochs)
    assert message in caplog.text
    assert (record.status, epochs) == (FINISHED, [1] * EPOCHS)


class Full:
    """A store on a disk without space."""

    def write_checkpoint(self, key: str, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    def read_checkpoint(self, key: str) -> bytes | None:
        raise OSError(5, "Input/output error")

    def drop_checkpoint(self, key: str) -> None:
        raise OSError(30, "Read-only file system")


def test_a_store_that_fails_costs_no_member(
    workbench: Workbench, analysis: Analysis, members: list[Task], caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = Checkpoints(Full(), 0.0)
    ((record, _),) = run_members(members[:1], workbench, analysis, checkpoints)
    checkpoints.drop(record.key)
    assert record.status == FINISHED
    for text in ("begins anew", "goes on without a checkpoint: [Errno 28] No space", "stays, though"):
        assert text in caplog.text


def test_a_member_that_is_filed_leaves_no_checkpoint(
    ledger: Ledger, digits: Dataset, analysis: Analysis, members: list[Task]
) -> None:
    class Bound(PackTrainable):
        def setup(self, config: dict[str, object]) -> None:  # type: ignore[override]
            arrays = digits.to_numpy()
            super().setup(config, arrays, analysis, str(ledger.path), threads=1, checkpoint_every=0.0)

    written: list[str] = []
    write = ledger.write_checkpoint
    keys = [task.config.key(digits.hash) for task in members]
    pack = {
        "members": [
            {"number": task.number, "key": key, "config": task.config.to_dict()}
            for key, task in zip(keys, members, strict=True)
        ]
    }
    trial = Bound(config=pack)
    trial._ledger.write_checkpoint = lambda key, content: (written.append(key), write(key, content))[1]  # type: ignore[method-assign]
    trial.step()
    assert set(written) == set(keys)
    assert [ledger.read_checkpoint(key) for key in keys] == [None] * 3
    ledger.write_checkpoint(keys[1], b"left behind by a process that died after it filed the member")
    trial.step()
    assert [ledger.read_checkpoint(key) for key in keys] == [None] * 3
    assert len(ledger.members()) == 3
