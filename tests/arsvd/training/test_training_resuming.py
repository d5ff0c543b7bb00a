"""Trainings that stop anywhere and go on: the same bits as if they never had stopped."""

import dataclasses
import itertools
import json
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from arsvd.data import Dataset
from arsvd.training import (
    Hyperparameters,
    MemberState,
    Pack,
    StateError,
    TrainingResult,
    dense_architecture,
    new_architecture,
    train,
)

# one that drops units, one that is padded, one that diverges in the third epoch
MEMBERS = (
    Hyperparameters(
        lr=3e-3, seed=1, weight_decay=0.1, settings={"model.dropout": 0.3, "training.flip": True}
    ),
    Hyperparameters(lr=1e-2, seed=2, settings={"training.label_smoothing": 0.1, "training.flip": True}),
    Hyperparameters(lr=1e15, seed=3, settings={"training.flip": True}),
)
WIDTHS = ((24, 16), (8, 30), (12, 12))
EPOCHS, BATCH, STEPS = 4, 256, 4  # steps an epoch: 1,149 images
Written = dict[int, list[MemberState]]


def new_pack(chosen: Sequence[int]) -> Pack:
    architectures = [new_architecture([64, *WIDTHS[i], 10], {"model.factors": 2}) for i in chosen]
    return Pack.from_seeds(architectures, [MEMBERS[i].seed for i in chosen])


def run(
    digits: Dataset,
    chosen: Sequence[int],
    states: Sequence[MemberState] | None = None,
    every: float = 0.0,
    schedule: str = "onecycle",
) -> tuple[Pack, TrainingResult, Written]:
    """Train; every state is written as bytes, by the number of steps done."""
    pack, written = new_pack(chosen), {}  # type: tuple[Pack, Written]

    def keep(member: int, state: MemberState) -> None:
        read = MemberState.from_bytes(state.to_bytes())
        written.setdefault(read.steps, []).append(read)
        assert len(written[read.steps]) == member + 1

    result = train(
        pack,
        digits,
        [MEMBERS[i] for i in chosen],
        epochs=EPOCHS,
        batch_size=BATCH,
        schedule=schedule,
        states=states,
        on_checkpoint=keep,
        checkpoint_every=every,
    )
    return pack, result, written


@pytest.fixture(scope="module")
def whole(digits: Dataset) -> tuple[Pack, TrainingResult, Written]:
    return run(digits, range(3))


def assert_same_bits(first: Pack, second: Pack) -> None:
    """Without padding, which a member that diverged may have spoilt."""
    for member in range(first.members):
        shapes = first.own_shapes(member)
        for one, other, (rows, columns) in zip(first.parameters, second.parameters, shapes, strict=True):
            mine, its = one[member, :rows, :columns], other[member, :rows, :columns]
            torch.testing.assert_close(mine, its, rtol=0, atol=0, equal_nan=True)


def test_there_is_a_state_after_each_step_of_each_member(
    whole: tuple[Pack, TrainingResult, Written],
) -> None:
    pack, result, written = whole
    assert sorted(written) == list(range(1, EPOCHS * STEPS + 1))  # and a partial batch is left out
    assert all(len(states) == 3 for states in written.values())
    assert list(result.failures) == [2]
    last = written[EPOCHS * STEPS]
    assert [state.failure for state in last] == [None, None, result.failures[2]]
    assert [state.curves for state in last] == result.curves
    for state, (rows, columns) in zip(last, (pack.own_shapes(m)[0] for m in range(3)), strict=True):
        assert state.tensors["parameter.0"].shape == (rows, columns)


@pytest.mark.parametrize("steps", [1, STEPS - 1, STEPS, STEPS + 1, 2 * STEPS + 2, EPOCHS * STEPS - 1])
def test_a_resumed_training_gives_equal_bits(
    digits: Dataset, whole: tuple[Pack, TrainingResult, Written], steps: int
) -> None:
    pack, result, written = whole
    again, resumed, later = run(digits, range(3), states=written[steps])
    assert_same_bits(pack, again)
    assert resumed.curves == result.curves
    assert resumed.failures == result.failures
    assert resumed.epochs == EPOCHS
    assert min(later) == steps + 1  # nothing was done again
    for after, member in itertools.product(later, range(3)):
        one, other = later[after][member], written[after][member]
        assert one.tensors.keys() == other.tensors.keys()
        for name, tensor in one.tensors.items():
            assert torch.equal(tensor.nan_to_num(), other.tensors[name].nan_to_num()), name


def test_a_training_that_was_done_is_not_trained_again(
    digits: Dataset, whole: tuple[Pack, TrainingResult, Written]
) -> None:
    pack, result, written = whole
    again, resumed, later = run(digits, range(3), states=written[EPOCHS * STEPS])
    assert_same_bits(pack, again)
    assert (resumed.curves, resumed.failures, resumed.epochs) == (result.curves, result.failures, EPOCHS)
    assert later == {}


def test_a_member_goes_on_in_another_pack(
    digits: Dataset, whole: tuple[Pack, TrainingResult, Written]
) -> None:
    """Other mates, other padding: the same up to the order of summation."""
    pack, result, written = whole
    alone, resumed, _ = run(digits, [1], states=[written[STEPS + 1][1]])
    for stacked, own in zip(pack.parameters, alone.parameters, strict=True):
        rows, columns = own.shape[1:]
        torch.testing.assert_close(stacked[1, :rows, :columns], own[0], rtol=1e-3, atol=1e-4)
    assert resumed.curves[0]["lr"] == result.curves[1]["lr"]
    assert resumed.curves[0]["train_loss"] == pytest.approx(result.curves[1]["train_loss"], rel=1e-4)


def test_a_pack_of_failures_is_not_trained_on(
    digits: Dataset, whole: tuple[Pack, TrainingResult, Written]
) -> None:
    _, result, written = whole
    after = (max(len(curve) for curve in result.curves[2].values()) + 1) * STEPS
    _, resumed, later = run(digits, [2], states=[written[after][2]])
    assert resumed.failures == {0: result.failures[2]}
    assert later == {}


def test_time_adds_up_over_the_parts(digits: Dataset) -> None:
    clock = itertools.count(100.0, 30.0)
    first: list[MemberState] = []

    def part(states: list[MemberState] | None, seen: list[MemberState]) -> TrainingResult:
        return train(
            new_pack([0, 1]),
            digits,
            MEMBERS[:2],
            epochs=1,
            batch_size=BATCH,
            states=states,
            on_checkpoint=lambda _, state: seen.append(state),
            checkpoint_every=0.0,
            clock=lambda: next(clock),
        )

    part(None, first)
    # 30 seconds from count to count, shared by two
    assert [state.seconds for state in first[::2]] == [15.0, 30.0, 45.0, 60.0]
    second = part(first[2:4], [])  # after step 2: two steps and the end are left
    assert second.seconds == [30.0 + 45.0] * 2


def test_checkpoints_wait_for_their_time(digits: Dataset) -> None:
    assert run(digits, [0], every=3600.0)[2] == {}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
def test_on_a_gpu_a_resumed_training_goes_on_too(digits: Dataset) -> None:
    data, members = digits.to("cuda"), MEMBERS[:2]
    written: Written = {}

    def run_on_gpu(states: Sequence[MemberState] | None) -> Pack:
        pack = Pack.from_seeds(
            [dense_architecture([64, *WIDTHS[i], 10]) for i in range(2)], [1, 2], "cuda", torch.float64
        )
        train(
            pack,
            data,
            members,
            epochs=EPOCHS,
            batch_size=BATCH,
            states=states,
            on_checkpoint=lambda _, state: written.setdefault(state.steps, []).append(state),
            checkpoint_every=0.0,
        )
        return pack

    pack = run_on_gpu(None)
    for steps in (1, STEPS, STEPS + 2):
        again = run_on_gpu(written[steps][:2])
        for one, other in zip(pack.parameters, again.parameters, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


# --- states that do not fit --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def state(whole: tuple[Pack, TrainingResult, Written]) -> MemberState:
    return whole[2][3][0]


def test_states_survive_their_bytes(state: MemberState) -> None:
    again = MemberState.from_bytes(state.to_bytes())
    assert dataclasses.replace(again, tensors={}) == dataclasses.replace(state, tensors={})
    assert again.tensors.keys() == state.tensors.keys()
    assert all(torch.equal(again.tensors[name], tensor) for name, tensor in state.tensors.items())


def test_damaged_bytes_are_refused(state: MemberState) -> None:
    content = state.to_bytes()
    for length in (0, 7, 100, len(content) // 2, len(content) - 1):
        with pytest.raises(StateError, match=r"is not whole|was not written by this library"):
            MemberState.from_bytes(content[:length])
    for place in range(len(content) // 2, len(content), len(content) // 20):
        flipped = bytearray(content)
        flipped[place] ^= 16
        with pytest.raises(StateError, match="damaged: its checksum does not fit its content"):
            MemberState.from_bytes(bytes(flipped))
    changed = content.replace(b'\\"steps\\": 3', b'\\"steps\\": 2')
    assert changed != content
    with pytest.raises(StateError, match="checksum"):
        MemberState.from_bytes(changed)


def test_other_files_and_versions_are_refused(state: MemberState, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors.torch import save

    with pytest.raises(StateError, match="was not written by this library"):
        MemberState.from_bytes(save({"a": torch.zeros(2)}))
    monkeypatch.setattr("arsvd.training.state.STATE_VERSION", 99)
    content = state.to_bytes()
    monkeypatch.undo()
    with pytest.raises(StateError, match="is of version 99; this release reads 2"):
        MemberState.from_bytes(content)


# name: fields of a state that another program wrote, its checksum right
FORGED: dict[str, dict[str, object]] = {
    "steps in words": {"steps": "3"},
    "steps below none": {"steps": -1},
    "curves as a list": {"curves": [1.0]},
    "a curve of words": {"curves": {"train_loss": ["a"]}},
    "seconds as a flag": {"seconds": True},
    "a failure as a number": {"failure": 3},
    "settings as a list": {"settings": []},
}


@pytest.mark.parametrize("change", FORGED.values(), ids=FORGED)
def test_a_state_of_other_types_is_refused(state: MemberState, change: dict[str, Any]) -> None:
    with pytest.raises(StateError, match=f"a training state is damaged: .*{next(iter(change))}"):
        MemberState.from_bytes(dataclasses.replace(state, **change).to_bytes())


def test_a_state_of_another_precision_survives_its_bytes(state: MemberState) -> None:
    coarse = {name: t.to(torch.bfloat16) if t.is_floating_point() else t for name, t in state.tensors.items()}
    again = MemberState.from_bytes(dataclasses.replace(state, tensors=coarse).to_bytes())
    assert all(torch.equal(again.tensors[name], tensor) for name, tensor in coarse.items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"settings": {"epochs": 5}}, "of another training: it differs in epochs", id="epochs"),
        pytest.param({"settings": {"draws": "counters", "lr": 1.0}}, "differs in draws, lr", id="two"),
        pytest.param(
            {"settings": {"model.dropout": 0.1, "training.lasso.weight": 0.1}},
            "differs in model.dropout, training.lasso.weight",
            id="methods",
        ),
        pytest.param({"tensors": {"more": torch.zeros(1)}}, "member 0 has more as well", id="tensors"),
        pytest.param({"tensors": {"first.0": torch.zeros(1)}}, "has a first.0 of another shape", id="shape"),
        pytest.param(
            {"tensors": {"order.x": torch.zeros(1)}}, r"does not fit: order: the state has", id="order"
        ),
        pytest.param(
            {"tensors": {"dropout.x": torch.zeros(1)}}, r"does not fit: dropout: the st", id="method"
        ),
    ],
)
def test_states_of_another_training_are_refused(
    digits: Dataset, state: MemberState, change: dict[str, dict[str, object]], message: str
) -> None:
    changes = {field: {**getattr(state, field), **values} for field, values in change.items()}
    with pytest.raises(StateError, match=message):
        run(digits, [0], states=[dataclasses.replace(state, **changes)])  # type: ignore[arg-type]


def test_states_at_different_steps_are_refused(
    digits: Dataset, whole: tuple[Pack, TrainingResult, Written]
) -> None:
    written = whole[2]
    with pytest.raises(
        StateError, match=r"pack of 2 needs as many states at one step, got states at \[1, 2\]"
    ):
        run(digits, [0, 1], states=[written[1][0], written[2][1]])
    with pytest.raises(StateError, match=r"a pack of 2 needs .* got states at \[1\]"):
        run(digits, [0, 1], states=[written[1][0]])


def test_a_state_holds_no_pickle(state: MemberState) -> None:
    content = state.to_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    assert len(content) == 8 + length + max(v["data_offsets"][1] for k, v in header.items() if k[0] != "_")
