"""From configurations to records: train compatible members together, factorise, measure, recover."""

import logging
import math
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from arsvd import MLP
from arsvd.training import (
    Hyperparameters,
    MemberState,
    Pack,
    StateError,
    TrainingResult,
    dense_architecture,
    train,
)
from sweeps.config import MemberConfig
from sweeps.records import FAILED, FINISHED, MemberRecord
from sweeps.trial.analysis import factorise, measure_points
from sweeps.trial.checkpoint import Checkpoints
from sweeps.trial.recovery import recover
from sweeps.trial.weights import MemberWeights
from sweeps.trial.workbench import Analysis, Workbench

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """One member to train.

    Attributes:
        number: its Optuna trial number.
        config: how to train it.
        state: where to go on; None begins.
    """

    number: int
    config: MemberConfig
    state: MemberState | None = None


Outcome = tuple[MemberRecord, MemberWeights | None]


def run_members(
    tasks: Sequence[Task],
    workbench: Workbench,
    analysis: Analysis,
    checkpoints: Checkpoints | None = None,
    on_epoch: Callable[[int], None] | None = None,
) -> Iterator[Outcome]:
    """Train members, those that fit together in one pack, and yield each as soon as it is measured.

    A member that fails yields a record with its cause, and no weights. Where a pack fails as a whole (it may
    be too large for the device), its halves are tried, down to single members. An error that leaves the CUDA
    device unusable is raised: no other member of this process could be trained.

    Args:
        tasks: the members.
        workbench: data and device.
        analysis: where trained members are measured.
        checkpoints: members in it go on where they are, and all leave their states there; none when None.
        on_epoch: called after each epoch of a pack with its number of members.
    """
    runner = _Runner(workbench, analysis, checkpoints, on_epoch)
    for group in compatible([runner.resumed(task) for task in tasks]):
        yield from runner.run(group)


def compatible(tasks: Sequence[Task]) -> list[list[Task]]:
    """Split members into packs that agree in depth, factors, batch size, epochs, schedule, flips and step."""
    groups: dict[object, list[Task]] = {}
    for task in tasks:
        c = task.config
        steps = 0 if task.state is None else task.state.steps
        kind = (len(c.hidden), c.factors, c.batch_size, c.epochs, c.schedule, c.flip, steps)
        groups.setdefault(kind, []).append(task)
    return list(groups.values())


class _Runner:
    """Trains packs and measures their members."""

    def __init__(
        self,
        workbench: Workbench,
        analysis: Analysis,
        checkpoints: Checkpoints | None,
        on_epoch: Callable[[int], None] | None,
    ) -> None:
        self._workbench, self._analysis = workbench, analysis
        self._checkpoints, self._on_epoch = checkpoints, on_epoch

    def resumed(self, task: Task) -> Task:
        """Return the task with what is known of how far it is."""
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
            _check_device(self._workbench.device)
            if len(tasks) == 1:
                yield self._failed(tasks[0], _cause(error)), None
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
        # here, not above: the error's frames hold the pack that did not fit
        if self._workbench.device.type == "cuda":
            torch.cuda.empty_cache()
        for group in rest:
            yield from self.run(group)

    def _train(self, tasks: list[Task]) -> tuple[Pack, TrainingResult]:
        shared = tasks[0].config
        on_epoch, checkpoints = self._on_epoch, self._checkpoints
        states = [task.state for task in tasks if task.state is not None]
        pack = Pack.from_seeds(
            [_architecture(task.config, self._workbench) for task in tasks],
            [task.config.seed for task in tasks],
            self._workbench.device,
        )
        result = train(
            pack,
            self._workbench.dataset,
            [_hyperparameters(task.config) for task in tasks],
            epochs=shared.epochs,
            batch_size=shared.batch_size,
            schedule=shared.schedule,
            flip=self._flip(shared),
            on_epoch=None if on_epoch is None else (lambda _: on_epoch(len(tasks))),
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
        for position, task in enumerate(tasks):
            curves = result.curves[position]
            if position in result.failures:
                yield self._failed(task, result.failures[position], curves), None
                continue
            try:
                model = pack.model(position, merge=True)
                outcome = _measure(
                    task,
                    model,
                    curves,
                    result.seconds[position],
                    self._workbench,
                    self._analysis,
                    self._flip(task.config),
                )
            except Exception as error:  # as above
                _check_device(self._workbench.device)
                outcome = self._failed(task, _cause(error), curves), None
            yield outcome

    def _flip(self, config: MemberConfig) -> bool:
        return self._workbench.dataset.colour if config.flip is None else config.flip

    def _key(self, task: Task) -> str:
        return task.config.key(self._workbench.dataset.hash)

    def _failed(self, task: Task, cause: str, curves: dict[str, list[float]] | None = None) -> MemberRecord:
        return MemberRecord(
            key=self._key(task),
            number=task.number,
            status=FAILED,
            cause=cause,
            config=task.config,
            curves=curves or {},
        )


def _measure(
    task: Task,
    model: MLP,
    curves: dict[str, list[float]],
    train_seconds: float,
    workbench: Workbench,
    analysis: Analysis,
    flip: bool,
) -> Outcome:
    model = model.to(workbench.device)
    times = [workbench.clock()]

    def lap() -> float:
        times.append(workbench.clock())
        return times[-1] - times[-2]

    seconds = {"train": train_seconds}
    found = factorise(model, task.config, analysis, workbench)
    seconds["spectra"] = lap()
    measured = measure_points(model, found, task.config, analysis, workbench)
    seconds["evaluate"] = lap()
    recovered = recover(model, measured, task.config, analysis, workbench, flip)
    seconds["recover"] = lap()
    record = MemberRecord(
        key=task.config.key(workbench.dataset.hash),
        number=task.number,
        status=FINISHED,
        cause=None,
        config=task.config,
        curves=curves,
        dense=measured.dense,
        asked=measured.asked,
        points=(*measured.points, *recovered),
        baselines=measured.baselines,
        seconds=seconds,
    )
    fitted = {(point.family, point.ranks): small for point, small in (measured.refitted | recovered).items()}
    weights = MemberWeights(model.cpu(), measured.spectra, fitted)
    return record, weights


def _check_device(device: torch.device) -> None:
    """Raise where a CUDA device is of no more use to this process.

    After some errors (an illegal address, a fault of the hardware) every CUDA call of a process fails, and
    each member that it is given would be filed as failed. Raised from here, such an error ends the trial, and
    Tune starts a new process that goes on from the checkpoints. Errors that leave the device in order, such
    as too little memory, do not show here.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _cause(error: BaseException) -> str:
    where = "".join(traceback.format_tb(error.__traceback__)[-3:]).strip()
    return f"{type(error).__name__}: {error}\n{where}"


def _architecture(config: MemberConfig, workbench: Workbench) -> tuple[tuple[int, ...], ...]:
    dataset = workbench.dataset
    return dense_architecture([dataset.features, *config.hidden, len(dataset.classes)], config.factors)


def _hyperparameters(config: MemberConfig) -> Hyperparameters:
    return Hyperparameters(
        lr=config.lr,
        weight_decay=config.weight_decay,
        dropout=config.dropout,
        label_smoothing=config.label_smoothing,
        seed=config.seed,
    )
