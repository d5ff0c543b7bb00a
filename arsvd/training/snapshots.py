"""Take members' states out of a running training, and put them into a new one."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from torch import Tensor

from arsvd.training.draws import Draws
from arsvd.training.hyperparameters import Hyperparameters
from arsvd.training.pack import Pack
from arsvd.training.result import TrainingResult
from arsvd.training.state import MemberState, StateError
from arsvd.training.step import TrainingStep

_PARTS = ("parameter", "first", "second")  # a weight and its two moments


class Snapshots:
    """Reads and writes the state of one training, member by member.

    Args:
        pack: the members' weights.
        step: with the optimizer's moments and the losses.
        draws: with the random state.
        result: with the curves and failures.
        members: one a member.
        shared: what else the training is, JSON-able.
    """

    def __init__(
        self,
        pack: Pack,
        step: TrainingStep,
        draws: Draws,
        result: TrainingResult,
        members: Sequence[Hyperparameters],
        shared: dict[str, Any],
    ) -> None:
        self._pack, self._step, self._draws, self._result = pack, step, draws, result
        self._members = members
        self._shared = {**shared, "draws": draws.kind, "dtype": str(step.losses.dtype)}

    def take(self, member: int, steps: int, within_epoch: bool) -> MemberState:
        """Copy a member's state.

        Args:
            member: its position.
            steps: done so far.
            within_epoch: whether an epoch has begun and not ended.
        """
        tensors = {name: tensor.detach().cpu().clone() for name, tensor in self._own(member).items()}
        drawn = self._draws.state(member, within_epoch)
        return MemberState(
            settings=self._settings(member),
            steps=steps,
            curves={key: list(curve) for key, curve in self._result.curves[member].items()},
            failure=self._result.failures.get(member),
            seconds=self._result.seconds[member],
            tensors=tensors | {f"draws.{name}": state for name, state in drawn.items()},
        )

    def restore(self, states: Sequence[MemberState]) -> int:
        """Put states in.

        Args:
            states: one a member, all at the same step.

        Returns:
            Steps done.

        Raises:
            StateError: a state belongs to another training, or they are at different steps. Members before
                it may have been changed.
        """
        if len({state.steps for state in states}) > 1 or len(states) != self._pack.members:
            raise StateError(
                f"a pack of {self._pack.members} needs as many states at one step, "
                f"got states at {[state.steps for state in states]}"
            )
        for member, state in enumerate(states):
            self._restore(member, state)
        return states[0].steps

    def _restore(self, member: int, state: MemberState) -> None:
        expected = self._settings(member)
        if state.settings != expected:
            differing = sorted(k for k in expected if state.settings.get(k) != expected[k])
            raise StateError(
                f"the state of member {member} is of another training: it differs in {', '.join(differing)}"
            )
        own = self._own(member)
        drawn = {n.removeprefix("draws."): t for n, t in state.tensors.items() if n.startswith("draws.")}
        if set(state.tensors) != {*own, *(f"draws.{name}" for name in drawn)}:
            raise StateError(f"the state of member {member} lacks tensors or has others")
        for name, tensor in own.items():
            if state.tensors[name].shape != tensor.shape:
                raise StateError(f"the state of member {member} has a {name} of another shape")
            tensor.copy_(state.tensors[name])
        try:
            self._draws.restore(member, drawn)
        except ValueError as error:
            raise StateError(f"the state of member {member} does not fit: {error}") from error
        self._result.curves[member] = {key: list(curve) for key, curve in state.curves.items()}
        self._result.seconds[member] = state.seconds
        if state.failure is not None:
            self._result.failures[member] = state.failure

    def _own(self, member: int) -> dict[str, Tensor]:
        """Name the views of a member's numbers, without padding."""
        found = {"losses": self._step.losses[member]}
        optimizer = self._step.optimizer
        for part, tensors in zip(_PARTS, (optimizer.parameters, *optimizer.moments), strict=True):
            shapes = self._pack.own_shapes(member)
            for index, (tensor, (rows, columns)) in enumerate(zip(tensors, shapes, strict=True)):
                found[f"{part}.{index}"] = tensor[member, :rows, :columns]
        return found

    def _settings(self, member: int) -> dict[str, Any]:
        values = {
            **self._shared,
            "architecture": self._pack.architectures[member],
            "hyperparameters": asdict(self._members[member]),
        }
        settings: dict[str, Any] = json.loads(json.dumps(values))  # as a state has them: lists for tuples
        return settings
