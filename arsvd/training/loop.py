"""The one training loop: dense, LoRITa, fine-tuning and distillation are arguments to it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from arsvd.data import Dataset, Split
from arsvd.training.hyperparameters import Hyperparameters
from arsvd.training.loss import pack_loss
from arsvd.training.optimizer import PackAdamW
from arsvd.training.pack import Pack
from arsvd.training.sampling import Batches, Dropout
from arsvd.training.schedule import SCHEDULES

EVALUATION_ROWS = 8192


@dataclass
class TrainingResult:
    """What training a pack led to; the weights are in the pack.

    Attributes:
        curves: one dict a member with a value an epoch: "train_loss", "validation_loss" in nats,
            "validation_accuracy" in [0, 1], "lr" the rate at the epoch's end.
        failures: member to cause, for members whose loss was not finite. Their curves end there.
        epochs: epochs done.
    """

    curves: list[dict[str, list[float]]]
    failures: dict[int, str] = field(default_factory=dict)
    epochs: int = 0


def train(
    pack: Pack,
    dataset: Dataset,
    members: Sequence[Hyperparameters],
    *,
    epochs: int,
    batch_size: int,
    schedule: str = "onecycle",
    flip: bool = False,
    teacher: Tensor | None = None,
    on_epoch: Callable[[TrainingResult], None] | None = None,
) -> TrainingResult:
    """Train every member of a pack, each by its own hyperparameters, in place.

    Same seeds on the same machine give the same weights on a CPU. A member whose loss is not finite is
    marked failed; the others do not notice, since no operation mixes members.

    Args:
        pack: the members' weights, on the device to train on.
        dataset: on the pack's device.
        members: one a member.
        epochs: at least 1.
        batch_size: images a step.
        schedule: a name in `SCHEDULES`.
        flip: whether images are mirrored at random.
        teacher: logits of the training images, (members or 1, flips, samples, classes): `flips` is 2 with
            the mirrored images' logits second, or 1 without flips. Needed where a member distils.
        on_epoch: called after each epoch with the result so far.

    Returns:
        Curves and failures.

    Raises:
        ValueError: the numbers of members differ, the schedule is unknown, epochs or batch size is below
            1, or a member distils and there is no teacher, or one of another shape.
    """
    _check(pack, members, epochs, batch_size, schedule)
    _check_teacher(teacher, members, flip, len(dataset.train.labels))
    device, dtype = pack.biases[0].device, pack.biases[0].dtype
    seeds = [member.seed for member in members]
    batches = Batches(
        dataset.train.images, dataset.train.labels, dataset.mean, dataset.std, seeds, batch_size, flip, dtype
    )
    dropout = Dropout([member.dropout for member in members], seeds, pack.hidden_widths, device, dtype)

    def column(name: str) -> Tensor:
        return torch.tensor([getattr(member, name) for member in members], device=device, dtype=dtype)

    smoothing, share, temperature = column("label_smoothing"), column("distillation"), column("temperature")
    weights = [weight for factors in pack.weights for weight in factors]
    optimizer = PackAdamW(weights, pack.biases, column("lr"), column("weight_decay"))
    factor, total = SCHEDULES[schedule], epochs * batches.steps
    result = TrainingResult([{key: [] for key in CURVES} for _ in members])
    rows = torch.arange(pack.members, device=device)[:, None]
    step = 0
    for parameter in optimizer.parameters:
        parameter.requires_grad_(True)
    for _ in range(epochs):
        losses = torch.zeros(pack.members, device=device, dtype=dtype)
        for inputs, labels, chosen, mirrored in batches.epoch():
            logits = pack.forward(inputs, dropout.masks(inputs.shape[1]))
            taught = None if teacher is None else _taught(teacher, rows, chosen, mirrored)
            loss = pack_loss(logits, labels, smoothing, taught, share, temperature)
            gradients = torch.autograd.grad(loss.sum(), optimizer.parameters)
            optimizer.step(gradients, factor(step / total))
            losses += loss.detach()
            step += 1
        rates = [member.lr * factor(step / total) for member in members]
        _record(result, pack, dataset, (losses / batches.steps).tolist(), rates)
        if on_epoch is not None:
            on_epoch(result)
        if len(result.failures) == pack.members:
            break
    for parameter in optimizer.parameters:
        parameter.requires_grad_(False)
    return result


CURVES = ("train_loss", "validation_loss", "validation_accuracy", "lr")


@torch.no_grad()
def pack_logits(pack: Pack, split: Split, dataset: Dataset, mirrored: bool = False) -> Tensor:
    """Compute every member's logits on a split, without dropout.

    Args:
        pack: the members.
        split: images on the pack's device.
        dataset: whose normalisation is used.
        mirrored: whether all images are mirrored.

    Returns:
        (members, samples, classes).
    """
    device, dtype = pack.biases[0].device, pack.biases[0].dtype
    batches = Batches(split.images, split.labels, dataset.mean, dataset.std, [0], 1, False, dtype)
    parts = []
    for chosen in torch.arange(len(split.labels), device=device)[None].split(EVALUATION_ROWS, dim=1):
        flips = torch.ones_like(chosen, dtype=torch.bool) if mirrored else None
        parts.append(pack.forward(batches.inputs(chosen, flips)))
    return torch.cat(parts, dim=1)


def _check(
    pack: Pack,
    members: Sequence[Hyperparameters],
    epochs: int,
    batch_size: int,
    schedule: str,
) -> None:
    if len(members) != pack.members:
        raise ValueError(f"the pack has {pack.members} members, hyperparameters came for {len(members)}")
    if epochs < 1 or batch_size < 1:
        raise ValueError(f"epochs and batch size must be at least 1, got {epochs} and {batch_size}")
    if schedule not in SCHEDULES:
        raise ValueError(f"unknown schedule {schedule!r}; there are {sorted(SCHEDULES)}")


def _check_teacher(
    teacher: Tensor | None, members: Sequence[Hyperparameters], flip: bool, samples: int
) -> None:
    if teacher is None:
        if any(member.distillation > 0 for member in members):
            raise ValueError("a member distils but there are no teacher logits")
    elif (
        teacher.ndim != 4
        or teacher.shape[0] not in (1, len(members))
        or teacher.shape[1] < 1 + flip
        or teacher.shape[2] != samples
    ):
        raise ValueError(
            f"the teacher's logits must be ({len(members)} or 1, {1 + flip}, {samples}, classes), "
            f"got {tuple(teacher.shape)}"
        )


def _taught(teacher: Tensor, rows: Tensor, chosen: Tensor, mirrored: Tensor | None) -> Tensor:
    """Pick the teacher's logits for a batch: (members, batch, classes)."""
    which = rows if teacher.shape[0] > 1 else torch.zeros_like(rows)
    flips = torch.zeros_like(chosen) if mirrored is None else mirrored.long()
    return teacher[which, flips, chosen]


def _record(
    result: TrainingResult, pack: Pack, dataset: Dataset, train_losses: list[float], rates: list[float]
) -> None:
    logits = pack_logits(pack, dataset.validation, dataset)
    labels = dataset.validation.labels.expand(pack.members, -1)
    losses = pack_loss(logits, labels, torch.zeros_like(logits[:, 0, 0])).tolist()
    accuracies = (logits.argmax(-1) == labels).double().mean(-1).tolist()
    result.epochs += 1
    for member, values in enumerate(zip(train_losses, losses, accuracies, rates, strict=True)):
        if member in result.failures:
            continue
        if not (math.isfinite(values[0]) and math.isfinite(values[1])):
            result.failures[member] = (
                f"the loss was not finite in epoch {result.epochs} "
                f"(training {values[0]}, validation {values[1]}); a lower learning rate may help"
            )
            continue
        for key, value in zip(CURVES, values, strict=True):
            result.curves[member][key].append(value)
