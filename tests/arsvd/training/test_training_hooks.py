"""The hooks that no registered method uses, in one that is made up; and the contract against broken ones."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from arsvd.options import Option
from arsvd.options.kinds import Number
from arsvd.testing import training_methods as contract
from arsvd.training import MemberState, StateError
from arsvd.training.methods import METHODS
from arsvd.training.methods.base import TrainingMethod
from arsvd.training.optimizer import PackAdamW
from arsvd.training.pack import Parameter
from arsvd.training.setup import Setup
from arsvd.training.step import StepInputs

SETTINGS = {"training.stretch.weight": 0.3}


class Stretched(TrainingMethod):
    """Trains a scale for each column of the first factor, and pulls the factor towards its running mean."""

    name = "stretched"
    options = (Option("training.stretch.weight", Number(0), "weight of the scales", default=0.0, absent=0.0),)

    def __init__(self, setup: Setup) -> None:
        self.weight = setup.column("training.stretch.weight")
        self.on_ = (self.weight > 0).to(self.weight)[:, None, None]
        self.first = setup.pack.own_parameters()[0]
        self.scales = torch.zeros_like(self.first.tensor[:, :1])
        self.mean = self.first.tensor.clone()

    def parameters(self, parameters: list[Parameter]) -> list[Parameter]:
        shapes = tuple((1, columns) for _, columns in self.first.shapes)
        return [*parameters, Parameter(self.scales, shapes, decayed=True, method=self.name)]

    def effective_weights(self, weights: list[list[Tensor]]) -> list[list[Tensor]]:
        (first, *rest), *layers = weights
        return [[first * (1 + self.scales * self.on_), *rest], *layers]

    def penalty(self) -> Tensor | None:
        return self.weight * self.scales.square().sum((-1, -2))

    def before_step(
        self, gradients: list[Tensor], parameters: Sequence[Parameter], inputs: StepInputs
    ) -> list[Tensor]:
        halved = 1 - self.on_ / 2
        pairs = zip(gradients, parameters, strict=True)
        return [gradient * halved if p.tensor is self.first.tensor else gradient for gradient, p in pairs]

    def after_step(self, inputs: StepInputs) -> None:
        self.mean.lerp_(self.first.tensor, 0.1)

    def after_epoch(self, epoch: int, optimizer: PackAdamW) -> None:
        self.first.tensor.add_(self.on_ * (self.mean - self.first.tensor) * 0.3)
        optimizer.moments[0][0].mul_(1 - self.on_)

    def state(self, member: int, within_epoch: bool) -> dict[str, Tensor]:
        rows, columns = self.first.shapes[member]
        return {"mean": self.mean[member, :rows, :columns]}


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Callable[[type[TrainingMethod]], type[TrainingMethod]]:
    def register(method: type[TrainingMethod]) -> type[TrainingMethod]:
        monkeypatch.setitem(METHODS._entries, method.name, "")
        monkeypatch.setitem(METHODS._loaded, method.name, method)
        return method

    return register


Register = Callable[[type[TrainingMethod]], type[TrainingMethod]]


@pytest.mark.parametrize("promise", contract.CONTRACT, ids=lambda promise: promise.__name__)
def test_a_method_of_many_hooks_keeps_the_contract(
    promise: Callable[..., None], registered: Register
) -> None:
    if promise is contract.imports_no_torch:
        pytest.skip("this file imports torch")
    promise(registered(Stretched), SETTINGS)


def test_a_pack_ends_with_its_effective_weights(registered: Register) -> None:
    registered(Stretched)
    member = contract._member(SETTINGS)
    states: dict[int, list[MemberState]] = {}
    pack, _ = contract._trained([member], contract.WIDTHS[:1], kept=states)
    tensors = states[max(states)][0].tensors
    stretched = tensors["parameter.0"] * (1 + tensors["stretched.parameter.0"])
    assert {name for name in tensors if name.startswith("stretched.")} == {
        "stretched.mean", "stretched.parameter.0", "stretched.first.0", "stretched.second.0",
    }  # fmt: skip
    assert torch.equal(pack.weights[0][0][0], stretched)
    assert not torch.equal(stretched, tensors["parameter.0"])


def test_a_member_that_has_it_off_leaves_no_trace_in_its_state(registered: Register) -> None:
    registered(Stretched)
    on, off = contract._member(SETTINGS, seed=1), contract._member({}, seed=2)
    states: dict[int, list[MemberState]] = {}
    contract._trained([on, off], [contract.ALIGNED] * 2, kept=states)
    state = states[5][1]
    assert not [name for name in state.tensors if "stretched" in name]
    alone, _ = contract._trained([off], [contract.ALIGNED], states=[state])
    never, _ = contract._trained([off], [contract.ALIGNED])
    for one, other in zip(alone.parameters, never.parameters, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


def test_a_state_that_lacks_a_method_s_own_is_refused(registered: Register) -> None:
    registered(Stretched)
    member = contract._member(SETTINGS)
    states: dict[int, list[MemberState]] = {}
    contract._trained([member], contract.WIDTHS[:1], kept=states)
    (state,) = states[2]
    for name, message in {
        "stretched.mean": r"does not fit: stretched: stretched keeps \['mean'\], the state has \[\]",
        "stretched.parameter.0": "member 0 lacks stretched.parameter.0",
    }.items():
        less = {key: tensor for key, tensor in state.tensors.items() if key != name}
        with pytest.raises(StateError, match=message):
            contract._trained([member], contract.WIDTHS[:1], states=[replace(state, tensors=less)])


class Mixing(Stretched):
    def penalty(self) -> Tensor | None:
        penalty = super().penalty()
        return None if penalty is None else penalty.mean().expand_as(penalty)


class Padded(Stretched):
    def penalty(self) -> Tensor | None:
        return self.weight * (1 + self.scales).square().sum((-1, -2))


class Waiting(Stretched):
    def before_step(
        self, gradients: list[Tensor], parameters: Sequence[Parameter], inputs: StepInputs
    ) -> list[Tensor]:
        return gradients if gradients[0].sum() > 0 else super().before_step(gradients, parameters, inputs)


class Meddling(Stretched):
    def after_step(self, inputs: StepInputs) -> None:
        self.first.tensor.mul_(0.999)


class Forgetful(Stretched):
    def state(self, member: int, within_epoch: bool) -> dict[str, Tensor]:
        return {}


class Elsewhere(Stretched):
    seen: Tensor | None = None

    def after_step(self, inputs: StepInputs) -> None:
        self.seen = inputs.coefficients if self.seen is None else self.seen
        self.first.tensor.mul_(1 - self.seen[3] * 1e-3)


class Idle(TrainingMethod):
    name, options = Stretched.name, Stretched.options


class AlwaysOn(Stretched):
    @classmethod
    def on(cls, member: Any) -> bool:
        return True


@pytest.mark.parametrize(
    ("broken", "promise"),
    [
        (Mixing, contract.penalty_has_its_gradient),
        (Padded, contract.penalty_has_its_gradient),
        (Waiting, contract.a_step_waits_for_nothing),
        (Meddling, contract.off_is_free),
        (AlwaysOn, contract.off_is_free),
        (Forgetful, contract.goes_on_from_checkpoints),
        (Elsewhere, contract.a_step_reads_its_inputs_from_one_place),
        (Idle, contract.differs_from_off),
    ],
)
def test_the_contract_finds(
    broken: type[TrainingMethod], promise: Callable[..., None], registered: Register
) -> None:
    with pytest.raises(AssertionError):
        promise(registered(broken), SETTINGS)
