"""The one training loop: training, fine-tuning and every training method are arguments to it."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor

from arsvd.data import Dataset
from arsvd.training.captured import CapturedStep
from arsvd.training.draws import ORDER
from arsvd.training.hyperparameters import Hyperparameters
from arsvd.training.images import Images
from arsvd.training.measuring import Validation
from arsvd.training.pack import Pack
from arsvd.training.precision import check_precision, default_precision, matrix_products
from arsvd.training.result import TrainingResult
from arsvd.training.schedules import SCHEDULES
from arsvd.training.setup import Setup
from arsvd.training.snapshots import Snapshots
from arsvd.training.state import MemberState
from arsvd.training.step import StepInputs, TrainingStep

CHECKPOINT_SECONDS = 60.0


def train(
    pack: Pack,
    dataset: Dataset,
    members: Sequence[Hyperparameters],
    *,
    epochs: int,
    batch_size: int,
    schedule: str = "onecycle",
    teacher: Tensor | None = None,
    taught_by: Sequence[int] | None = None,
    precision: str | None = None,
    on_epoch: Callable[[TrainingResult], None] | None = None,
    states: Sequence[MemberState] | None = None,
    on_checkpoint: Callable[[int, MemberState], None] | None = None,
    checkpoint_every: float = CHECKPOINT_SECONDS,
    clock: Callable[[], float] = time.perf_counter,
) -> TrainingResult:
    """Train every member of a pack, each by its own hyperparameters and methods, in place.

    On a CPU, the same seeds on the same machine give the same weights, also where a training was resumed. A
    member whose loss is not finite is marked as failed; the others are not affected, since no operation mixes
    members. On CUDA the whole step is one graph, and the host waits for the device once per epoch.

    Args:
        pack: the members' weights, on the device to train on.
        dataset: data set on the pack's device.
        members: hyperparameters of each member.
        epochs: number of epochs, at least 1.
        batch_size: images per step.
        schedule: name of the learning-rate schedule in `SCHEDULES`.
        teacher: logits of the training images, (teachers, views, samples, classes): with flips there are two
            views, the mirrored images' logits second. Needed where a member distils.
        taught_by: number of each member's teacher, from 0; by default a single teacher teaches all members,
            and with as many teachers as members each has its own.
        precision: precision of matrix products, a name in `PRECISIONS`; by default tf32 on CUDA, else
            float32.
        on_epoch: callback after each epoch, for the result so far.
        states: state of each member, from `on_checkpoint` of an equal training, from which the training
            continues.
        on_checkpoint: callback for a member's position and state. It is called for each member in turn when
            `checkpoint_every` has passed, between two steps, and at the end of a training that took at least
            as long.
        checkpoint_every: seconds between checkpoints.
        clock: clock in seconds, for `TrainingResult.seconds`.

    Returns:
        Curves and failures.

    Raises:
        ValueError: the numbers of members differ, the data set is on another device, the schedule or the
            precision is unknown, epochs or batch size is below 1, or a member distils and there is no
            teacher, or one of another shape or number.
    """
    device, dtype = pack.biases[0].device, pack.biases[0].dtype
    precision = precision or default_precision(device)
    _check(pack, dataset, members, epochs, batch_size, schedule)
    check_precision(precision, device)
    with _current(device):
        images = Images(dataset.train.images, dataset.train.labels, dataset.mean, dataset.std, dtype)
        setup = Setup.of(pack, images, members, teacher, taught_by)
        orders, methods = setup.draws.stream(ORDER), setup.methods()
        step = TrainingStep(setup, methods, half=precision == "bfloat16")
        result = TrainingResult.empty(pack.members)
        shared = {
            "epochs": epochs,
            "batch_size": batch_size,
            "schedule": schedule,
            "samples": len(images),
        }
        snapshots = Snapshots(setup, step, orders, methods, result, shared)
        done = 0 if states is None else snapshots.restore(states)
        batch = min(batch_size, len(images))
        steps = len(images) // batch  # a partial batch is left out; the order changes each epoch
        result.epochs = done // steps
        factor, total = SCHEDULES[schedule], epochs * steps
        coefficients = step.optimizer.coefficients([factor(number / total) for number in range(total)])
        advance: Callable[[StepInputs], None] = CapturedStep(step) if device.type == "cuda" else step
        validation = Validation(pack, dataset, step.weights)
        watch = _Watch(result.seconds, clock, checkpoint_every, saved=done)

        def checkpoint(due: bool) -> None:
            if on_checkpoint is not None and due:
                watch.count()
                for member in range(pack.members):
                    on_checkpoint(member, snapshots.take(member, done, within_epoch=done % steps > 0))
                watch.mark(done)

        with _gradients(step.optimizer.parameters), matrix_products(precision, device):
            for epoch in range(result.epochs, epochs):
                if len(result.failures) == pack.members:
                    break
                order = orders.orders(epoch, len(images))
                drawn = {method.name: method.before_epoch(epoch) for method in methods}
                if done % steps == 0:
                    step.losses.zero_()
                for number in range(done, (epoch + 1) * steps):
                    shown = slice((number % steps) * batch, (number % steps + 1) * batch)
                    setup.draws.at(number)
                    parts = {name: each[:, shown] for name, each in drawn.items() if each is not None}
                    advance(StepInputs(order[:, shown], parts, coefficients[number]))
                    done = number + 1
                    checkpoint(done % steps > 0 and watch.due())
                with torch.no_grad():
                    for method in methods:
                        method.after_epoch(epoch, step.optimizer)
                rates = [member.lr * factor(done / total) for member in members]
                losses = (step.losses / steps).tolist()
                result.add_epoch(losses, *validation.measure(), rates)
                if on_epoch is not None:
                    on_epoch(result)
                checkpoint(watch.due())
        checkpoint(watch.long() and watch.saved != done)  # what follows a long training may end early too
        watch.count()
        step.settle()
        return result


class _Watch:
    """Counts the time of a training, and tells when a checkpoint is due.

    Args:
        seconds: seconds of each member, to which time is added.
        clock: clock that measures them.
        every: seconds of wall time between checkpoints.
        saved: number of steps that are saved already.
    """

    def __init__(self, seconds: list[float], clock: Callable[[], float], every: float, saved: int) -> None:
        self._seconds, self._clock, self._every = seconds, clock, every
        self._counted = clock()
        self._began = self._marked = time.monotonic()
        self.saved = saved

    def due(self) -> bool:
        return time.monotonic() - self._marked >= self._every

    def long(self) -> bool:
        """Tell whether a training took so long that losing it would cost more than a checkpoint."""
        return time.monotonic() - self._began >= self._every

    def mark(self, steps: int) -> None:
        """Note that all steps up to a number are saved."""
        self.saved, self._marked = steps, time.monotonic()

    def count(self) -> None:
        """Add the time since the last count to every member, in equal shares."""
        now = self._clock()
        share = (now - self._counted) / len(self._seconds)
        self._counted = now
        for member in range(len(self._seconds)):
            self._seconds[member] += share


def _current(device: torch.device) -> AbstractContextManager[object]:
    """Make a CUDA device the current one: streams, graphs and Triton's kernels go only there."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


@contextmanager
def _gradients(parameters: Sequence[Tensor]) -> Iterator[None]:
    for parameter in parameters:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(False)


def _check(
    pack: Pack,
    dataset: Dataset,
    members: Sequence[Hyperparameters],
    epochs: int,
    batch_size: int,
    schedule: str,
) -> None:
    if len(members) != pack.members:
        raise ValueError(f"the pack has {pack.members} members, hyperparameters came for {len(members)}")
    if epochs < 1 or batch_size < 1:
        raise ValueError(f"epochs and batch size must be at least 1, got {epochs} and {batch_size}")
    places = dataset.train.images.device, pack.biases[0].device
    if places[0] != places[1]:
        raise ValueError(
            f"the data set is on {places[0]}, the pack on {places[1]}; `dataset.to(device)` moves it"
        )
    SCHEDULES[schedule]  # raises an error that names the known ones
