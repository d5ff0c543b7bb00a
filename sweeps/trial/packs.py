"""From configurations to records: train compatible members together, and measure them."""

import functools
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from arsvd.training import (
    Architecture,
    Hyperparameters,
    MemberState,
    Pack,
    StateError,
    TrainingResult,
    new_architecture,
    train,
)
from sweeps.config import MemberConfig
from sweeps.ledger.best_so_far import BestSoFar
from sweeps.trial.checkpoint import Checkpoints
from sweeps.trial.failures import cause_of, check_device, failed_record
from sweeps.trial.measurement import Measurement, Member, Outcome, group_size
from sweeps.trial.settings import FLIP, method_settings
from sweeps.trial.workbench import Analysis, Workbench

__all__ = ["Outcome", "Task", "compatible", "run_members"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """A member to train.

    Attributes:
        number: number of its Optuna trial.
        config: configuration of its training.
        key: key under which its record is filed; None for the key that it has in a new sweep.
        state: state to continue from; None to begin.
    """

    number: int
    config: MemberConfig
    key: str | None = None
    state: MemberState | None = None


def run_members(
    tasks: Sequence[Task],
    workbench: Workbench,
    analysis: Analysis,
    checkpoints: Checkpoints | None = None,
    on_epoch: Callable[[Sequence[int], int], None] | None = None,
    best: Callable[[], BestSoFar] = BestSoFar,
) -> Iterator[Outcome]:
    """Train members, those that fit together in one pack, and yield each as soon as it is measured.

    A member that fails yields a record with its cause, and no weights. Where a pack fails as a whole (it may
    be too large for the device), its halves are tried, down to single members. An error that leaves the CUDA
    device unusable is raised: no other member of this process could be trained.

    Args:
        tasks: members to train.
        workbench: data and device.
        analysis: points at which trained members are measured.
        checkpoints: store from which members continue, and in which all leave their states; None for no
            store.
        on_epoch: callback after each epoch of a pack, for its members' numbers and the epochs that they have
            had.
        best: function that returns the best accuracies of the members filed so far: only points that may beat
            them are fine-tuned.
    """
    runner = _Runner(workbench, analysis, checkpoints, on_epoch, best)
    for group in compatible([runner.resumed(task) for task in tasks]):
        yield from runner.run(group)


def compatible(tasks: Sequence[Task]) -> list[list[Task]]:
    """Split members into packs that agree in depth, factors, batch size, epochs, schedule, flips and step."""
    groups: dict[object, list[Task]] = {}
    for task in tasks:
        steps = 0 if task.state is None else task.state.steps
        groups.setdefault((task.config.kind, steps), []).append(task)
    return list(groups.values())


class _Runner:
    """Trains packs and measures their members."""

    def __init__(
        self,
        workbench: Workbench,
        analysis: Analysis,
        checkpoints: Checkpoints | None,
        on_epoch: Callable[[Sequence[int], int], None] | None,
        best: Callable[[], BestSoFar],
    ) -> None:
        self._workbench, self._analysis, self._best = workbench, analysis, best
        self._checkpoints, self._on_epoch = checkpoints, on_epoch

    def resumed(self, task: Task) -> Task:
        """Return the task with the state that its training has reached."""
        if self._checkpoints is None:
            return task
        return replace(task, state=self._checkpoints.read(self._key(task)))

    def run(self, tasks: list[Task]) -> Iterator[Outcome]:
        """Train one pack and measure its members; see `run_members`."""
        try:
            pack, result = self._train(tasks)
        except StateError as error:
            log.warning("%d members are trained from their beginning: %s", len(tasks), error)
            rest = [[replace(task, state=None) for task in tasks]]
        except Exception as error:  # whatever stops one pack must not stop the sweep; the cause is recorded
            check_device(self._workbench.device)
            if len(tasks) == 1:
                (task,) = tasks
                yield failed_record(task.number, task.config, self._key(task), cause_of(error), {}), None
                return
            log.warning("a pack of %d members is halved: %s", len(tasks), error)
            middle = len(tasks) // 2
            rest = [
                group
                for half in (tasks[:middle], tasks[middle:])
                for group in compatible([self.resumed(task) for task in half])
            ]
        else:
            yield from self._measured(tasks, pack, result)
            return
        # outside the handler: the error's frames hold the pack that did not fit
        if self._workbench.device.type == "cuda":
            torch.cuda.empty_cache()
        for group in rest:
            yield from self.run(group)

    def _train(self, tasks: list[Task]) -> tuple[Pack, TrainingResult]:
        shared = tasks[0].config
        on_epoch, checkpoints = self._on_epoch, self._checkpoints
        numbers = [task.number for task in tasks]
        states = [task.state for task in tasks if task.state is not None]
        pack = Pack.from_seeds(
            [_architecture(task.config, self._workbench) for task in tasks],
            [task.config.seed for task in tasks],
            self._workbench.device,
        )
        result = train(
            pack,
            self._workbench.dataset,
            [_hyperparameters(task.config, self._workbench) for task in tasks],
            epochs=shared.epochs,
            batch_size=shared.batch_size,
            schedule=shared.schedule,
            on_epoch=None if on_epoch is None else (lambda result: on_epoch(numbers, result.epochs)),
            states=states or None,
            on_checkpoint=(
                None
                if checkpoints is None
                else lambda member, state: checkpoints.write(self._key(tasks[member]), state)
            ),
            checkpoint_every=math.inf if checkpoints is None else checkpoints.every,
            clock=self._workbench.clock,
        )
        return pack, result

    def _measured(self, tasks: list[Task], pack: Pack, result: TrainingResult) -> Iterator[Outcome]:
        """Measure the members of a trained pack, a few together, and yield each as soon as it is done."""
        steps = Measurement(self._workbench, self._analysis, self._best)
        size = group_size(self._workbench.device)
        for start in range(0, len(tasks), size):
            group = []
            for position, task in enumerate(tasks[start : start + size], start):
                cause, seconds = result.failures.get(position), {"train": result.seconds[position]}
                curves, key = result.curves[position], self._key(task)
                member = Member(task.number, task.config, key, curves, cause, seconds)
                if cause is None:
                    steps.take(member, functools.partial(pack.model, position, merge=True))
                group.append(member)
            steps.factorise(group)
            steps.search(group)
            steps.refit(group)
            steps.recover(group)
            yield from map(steps.outcome, group)

    def _key(self, task: Task) -> str:
        return task.key or task.config.key(self._workbench.dataset.hash)


def _architecture(config: MemberConfig, workbench: Workbench) -> Architecture:
    dataset = workbench.dataset
    settings = _hyperparameters(config, workbench).settings
    return new_architecture([dataset.features, *config.hidden, len(dataset.classes)], settings)


def _hyperparameters(config: MemberConfig, workbench: Workbench) -> Hyperparameters:
    return Hyperparameters(
        lr=config.lr,
        weight_decay=config.weight_decay,
        seed=config.seed,
        settings=method_settings(config) | {FLIP: workbench.flip(config)},
    )
