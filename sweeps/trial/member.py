"""From configurations to records: train compatible members together, factorise, measure, recover."""

import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from arsvd import MLP
from arsvd.training import Hyperparameters, Pack, dense_architecture, train
from sweeps.config import MemberConfig
from sweeps.records import FAILED, FINISHED, MemberRecord
from sweeps.trial.analysis import factorise, measure_points
from sweeps.trial.recovery import recover
from sweeps.trial.weights import MemberWeights
from sweeps.trial.workbench import Analysis, Workbench


@dataclass(frozen=True)
class Task:
    """One member to train.

    Attributes:
        number: its Optuna trial number.
        config: how to train it.
    """

    number: int
    config: MemberConfig


Outcome = tuple[MemberRecord, MemberWeights | None]


def run_members(
    tasks: Sequence[Task],
    workbench: Workbench,
    analysis: Analysis,
    on_epoch: Callable[[int], None] | None = None,
) -> Iterator[Outcome]:
    """Train members, those that fit together in one pack, and yield each as soon as it is measured.

    A member that fails yields a record with its cause, and no weights. Where a pack fails as a whole (it may
    be too large for the device), its members are trained one by one.

    Args:
        tasks: the members.
        workbench: data and device.
        analysis: where trained members are measured.
        on_epoch: called after each epoch of a pack with its number of members.
    """
    for group in compatible(tasks):
        yield from _run_pack(group, workbench, analysis, on_epoch)


def compatible(tasks: Sequence[Task]) -> list[list[Task]]:
    """Split members into packs that agree in depth, factors, batch size, epochs, schedule and flips."""
    groups: dict[object, list[Task]] = {}
    for task in tasks:
        c = task.config
        kind = (len(c.hidden), c.factors, c.batch_size, c.epochs, c.schedule, c.flip)
        groups.setdefault(kind, []).append(task)
    return list(groups.values())


def _run_pack(
    tasks: list[Task],
    workbench: Workbench,
    analysis: Analysis,
    on_epoch: Callable[[int], None] | None,
) -> Iterator[Outcome]:
    dataset = workbench.dataset
    started = time.perf_counter()
    shared = tasks[0].config
    flip = dataset.colour if shared.flip is None else shared.flip
    try:
        pack = Pack.from_seeds(
            [_architecture(task.config, workbench) for task in tasks],
            [task.config.seed for task in tasks],
            workbench.device,
        )
        result = train(
            pack,
            dataset,
            [_hyperparameters(task.config) for task in tasks],
            epochs=shared.epochs,
            batch_size=shared.batch_size,
            schedule=shared.schedule,
            flip=flip,
            on_epoch=None if on_epoch is None else (lambda _: on_epoch(len(tasks))),
        )
    except Exception as error:  # whatever stops one pack must not stop the sweep; the cause is recorded
        if len(tasks) == 1:
            yield _failed(tasks[0], dataset.hash, _cause(error)), None
            return
        for task in tasks:
            yield from _run_pack([task], workbench, analysis, on_epoch)
        return
    seconds = (time.perf_counter() - started) / len(tasks)
    for position, task in enumerate(tasks):
        curves = result.curves[position]
        if position in result.failures:
            yield _failed(task, dataset.hash, result.failures[position], curves), None
            continue
        try:
            yield _measure(task, pack.model(position, merge=True), curves, seconds, workbench, analysis, flip)
        except Exception as error:  # as above
            yield _failed(task, dataset.hash, _cause(error), curves), None


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
    clock = [time.perf_counter()]

    def lap() -> float:
        clock.append(time.perf_counter())
        return clock[-1] - clock[-2]

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


def _failed(
    task: Task, data_hash: str, cause: str, curves: dict[str, list[float]] | None = None
) -> MemberRecord:
    return MemberRecord(
        key=task.config.key(data_hash),
        number=task.number,
        status=FAILED,
        cause=cause,
        config=task.config,
        curves=curves or {},
    )


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
