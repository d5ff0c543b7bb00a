"""Take members' states out of a running training, and put them into a new one."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from arsvd.training.draws import Stream
from arsvd.training.methods.base import TrainingMethod
from arsvd.training.result import TrainingResult
from arsvd.training.setup import Setup
from arsvd.training.state import MemberState, StateError
from arsvd.training.step import TrainingStep

_PARTS = ("parameter", "first", "second")  # a weight and its two moments


class Snapshots:
    """Reads and writes the state of one training, member by member.

    Args:
        setup: setup of the training.
        step: training step, which has the optimizer's moments and the losses.
        orders: random stream of the order of images.
        methods: training methods, each with a state of its own.
        result: curves and failures.
        shared: other settings that identify the training, JSON-able.
    """

    def __init__(
        self,
        setup: Setup,
        step: TrainingStep,
        orders: Stream,
        methods: Sequence[TrainingMethod],
        result: TrainingResult,
        shared: dict[str, Any],
    ) -> None:
        self._setup, self._step, self._result = setup, step, result
        self._orders, self._methods = orders, methods
        self._shared = {**shared, "draws": setup.draws.kind, "dtype": str(step.losses.dtype)}

    def take(self, member: int, steps: int, within_epoch: bool) -> MemberState:
        """Copy a member's state.

        Args:
            member: position of the member.
            steps: number of steps done so far.
            within_epoch: True if an epoch has begun and not ended.
        """
        tensors = self._own(member)
        for name, keeper in self._keepers(member).items():
            kept = keeper.state(member, within_epoch)
            tensors |= {f"{name}.{key}": tensor for key, tensor in kept.items()}
        return MemberState(
            settings=self._settings(member),
            steps=steps,
            curves={key: list(curve) for key, curve in self._result.curves[member].items()},
            failure=self._result.failures.get(member),
            seconds=self._result.seconds[member],
            tensors={name: tensor.detach().cpu().clone() for name, tensor in tensors.items()},
        )

    def restore(self, states: Sequence[MemberState]) -> int:
        """Restore members' states.

        Args:
            states: state of each member, all at the same step.

        Returns:
            Number of steps done.

        Raises:
            StateError: a state belongs to another training, or the states are at different steps. Members
                that come earlier may have been changed already.
        """
        if len({state.steps for state in states}) > 1 or len(states) != self._setup.pack.members:
            raise StateError(
                f"a pack of {self._setup.pack.members} needs as many states at one step, "
                f"got states at {[state.steps for state in states]}"
            )
        for member, state in enumerate(states):
            self._restore(member, state)
        return states[0].steps

    def _restore(self, member: int, state: MemberState) -> None:
        expected, found = self._settings(member), state.settings
        if found != expected:
            differing = sorted(key for key in {*expected, *found} if found.get(key) != expected.get(key))
            raise StateError(
                f"the state of member {member} is of another training: it differs in {', '.join(differing)}"
            )
        tensors = dict(state.tensors)
        for name, tensor in self._own(member).items():
            if name not in tensors:
                raise StateError(f"the state of member {member} lacks {name}")
            if tensors[name].shape != tensor.shape:
                raise StateError(f"the state of member {member} has a {name} of another shape")
            tensor.copy_(tensors.pop(name))
        for name, keeper in self._keepers(member).items():
            keys = [key for key in tensors if key.startswith(f"{name}.")]
            try:
                keeper.restore(member, {key.removeprefix(f"{name}."): tensors.pop(key) for key in keys})
            except ValueError as error:
                raise StateError(f"the state of member {member} does not fit: {name}: {error}") from error
        if tensors:
            raise StateError(f"the state of member {member} has {', '.join(sorted(tensors))} as well")
        self._result.curves[member] = {key: list(curve) for key, curve in state.curves.items()}
        self._result.seconds[member] = state.seconds
        if state.failure is not None:
            self._result.failures[member] = state.failure

    def _own(self, member: int) -> dict[str, Tensor]:
        """Return views of a member's numbers by name, without padding."""
        found = {"losses": self._step.losses[member]}
        on = {None, *self._on(member)}
        counts: Counter[str | None] = Counter()
        for parameter, *moments in zip(self._step.parameters, *self._step.optimizer.moments, strict=True):
            rows, columns = parameter.shapes[member]
            prefix = "" if parameter.method is None else f"{parameter.method}."
            if parameter.method in on:
                for part, tensor in zip(_PARTS, (parameter.tensor, *moments), strict=True):
                    number = counts[parameter.method]
                    found[f"{prefix}{part}.{number}"] = tensor[member, :rows, :columns]
                counts[parameter.method] += 1
        return found

    def _keepers(self, member: int) -> dict[str, Stream | TrainingMethod]:
        """Return what keeps a state for a member, by name; a method that is off for it keeps none."""
        return {"order": self._orders, **self._on(member)}

    def _on(self, member: int) -> dict[str, TrainingMethod]:
        return {m.name: m for m in self._methods if m.on(self._setup.members[member])}

    def _settings(self, member: int) -> dict[str, Any]:
        own = self._setup.members[member]
        values = {
            **self._shared,
            **own.settings,
            "architecture": self._setup.pack.architectures[member],
            "lr": own.lr,
            "weight_decay": own.weight_decay,
            "seed": own.seed,
        }
        settings: dict[str, Any] = json.loads(json.dumps(values))  # as a state holds them: lists for tuples
        return settings
