"""Fine-tune points after truncation, distilled from their own dense models: a whole pack's at once."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from arsvd import MLP, OperatingPoint, Plan, compress, evaluate, pareto
from arsvd.candidates.refit import ROWS
from arsvd.candidates.sizes import spread_plans
from arsvd.evaluation.evaluator import operating_point
from arsvd.formats import LOW_RANK
from arsvd.refit import refit
from arsvd.training import Hyperparameters, Pack, architecture_of, pack_logits, structure, train
from sweeps.config import MemberConfig
from sweeps.ledger.best_so_far import BestSoFar
from sweeps.ledger.records import RECOVERED
from sweeps.trial.points import Measured
from sweeps.trial.settings import FLIP, method_settings
from sweeps.trial.workbench import Analysis, Workbench

BATCH_SIZE = 256
# Largest numbers of students per training, which share every batch. On a CPU six were measured, the default
# of a member (benchmarks/NOTES.md); twice as many were not.
_MOST_ON_CPU, _MOST_ON_CUDA = 12, 512
_TEACHER_NUMBERS = 2**28  # in the logits of one training's teachers; 1 GiB


@dataclass(frozen=True)
class Trained:
    """A member whose points may be fine-tuned.

    Attributes:
        model: trained model, which is the teacher; not changed.
        measured: spectra and points of the member.
        config: settings, such as the numbers of points and epochs, the learning rate and the distillation.
    """

    model: MLP
    measured: Measured
    config: MemberConfig


@dataclass(frozen=True)
class _Student:
    owner: int
    plan: Plan
    start: nn.Module


def recover(
    members: Sequence[Trained], analysis: Analysis, workbench: Workbench, flip: bool, best: BestSoFar
) -> list[dict[OperatingPoint, MLP]]:
    """Fine-tune points that may move the sweep's front, in as few packs as the shapes allow.

    Sizes are spread over each member's front. A size is left out where, before fine-tuning, the member is
    behind the best member so far by more than one standard error of an accuracy: fine-tuning lifts both, and
    hardly ever makes up for it (measured in benchmarks/NOTES.md).

    Args:
        members: members of one pack; they agree in batch size, and compete with each other as well.
        analysis: bases, and the drop that the best point may have.
        workbench: data and device.
        flip: True if training images are mirrored at random.
        best: best accuracies of the members measured so far.

    Returns:
        For each member its recovered operating points with their models; empty where nothing is compressed,
        requested or promising.
    """
    rivals = BestSoFar()
    rivals.join(best)
    for member in members:
        rivals.add_points(member.measured.points)
    students = [
        _Student(owner, chosen, _start(member, chosen, analysis, workbench))
        for owner, member in enumerate(members)
        for chosen in promising(member, rivals, analysis, len(workbench.validation[1]))
    ]
    recovered: list[dict[OperatingPoint, MLP]] = [{} for _ in members]
    for group in _groups(students, members, workbench, flip):
        for student, tuned in _fine_tuned(group, members, workbench, flip):
            metrics = evaluate(tuned.to(workbench.device), *workbench.validation)
            point = operating_point(student.plan, metrics).named(RECOVERED)
            recovered[student.owner][point] = tuned.cpu()
    return recovered


def promising(member: Trained, rivals: BestSoFar, analysis: Analysis, images: int) -> list[Plan]:
    """Choose the sizes at which a member is level with its rivals, including itself."""
    own = BestSoFar()
    own.add_points(member.measured.points)

    def level(params: int) -> bool:
        rival = rivals.accuracy(params)
        return own.accuracy(params) >= rival - math.sqrt(rival * (1 - rival) / images)

    return [chosen for chosen in sizes(member, analysis) if level(chosen.cost.numbers)]


def sizes(member: Trained, analysis: Analysis) -> list[Plan]:
    """Spread the sizes to fine-tune over a member's front; none where fine-tuning is off."""
    config, measured = member.config, member.measured
    if config.finetune_epochs == 0 or LOW_RANK not in analysis.formats:  # packs train factors
        return []
    spectra, front = measured.spectra[analysis.main_basis], pareto(measured.points)
    return spread_plans(spectra, front, measured.dense, config.finetune_points, analysis.max_drop)


def _start(member: Trained, chosen: Plan, analysis: Analysis, workbench: Workbench) -> nn.Module:
    """Build the model that fine-tuning starts from: refitted layers if requested, else truncated ones."""
    spectra = member.measured.spectra[analysis.main_basis]
    if "refit" in analysis.families:
        inputs = workbench.calibration(member.config.calibration)[:ROWS]
        return refit(member.model, spectra, chosen, inputs)
    return compress(member.model, spectra, chosen)


def _groups(
    students: Sequence[_Student], members: Sequence[Trained], workbench: Workbench, flip: bool
) -> Iterator[list[_Student]]:
    """Split students into trainings: each of one structure, and as large as memory allows."""
    alike: dict[object, list[_Student]] = {}
    for student in students:
        kind = structure(architecture_of(student.start)), members[student.owner].config.finetune_epochs
        alike.setdefault(kind, []).append(student)
    dataset = workbench.dataset
    logits = (1 + flip) * len(dataset.train) * len(dataset.classes)
    teachers = max(1, _TEACHER_NUMBERS // logits)
    most = min(_MOST_ON_CUDA if workbench.device.type == "cuda" else _MOST_ON_CPU, teachers)
    for group in alike.values():
        for first in range(0, len(group), most):
            yield group[first : first + most]


def _fine_tuned(
    students: Sequence[_Student], members: Sequence[Trained], workbench: Workbench, flip: bool
) -> Iterator[tuple[_Student, MLP]]:
    """Train students of one structure together; those whose loss is not finite are left out."""
    owners = list(dict.fromkeys(student.owner for student in students))
    configs = [members[student.owner].config for student in students]
    pack = Pack.from_models([student.start for student in students], workbench.device)
    result = train(
        pack,
        workbench.dataset,
        [
            Hyperparameters(
                lr=config.finetune_lr,
                seed=0,  # only for the order: with one seed for all, students share each batch
                settings=method_settings(config, recovery=True) | {FLIP: flip},
            )
            for config in configs
        ],
        epochs=configs[0].finetune_epochs,
        batch_size=min(configs[0].batch_size, BATCH_SIZE),
        teacher=_logits([members[owner].model for owner in owners], workbench, flip),
        taught_by=[owners.index(student.owner) for student in students],
    )
    for position, student in enumerate(students):
        if position not in result.failures:
            yield student, pack.model(position, merge=False)


@torch.no_grad()
def _logits(teachers: Sequence[MLP], workbench: Workbench, flip: bool) -> Tensor:
    """Compute dense members' logits on the training images: (teachers, views, samples, classes)."""
    pack = Pack.from_models(teachers, workbench.device)
    dataset = workbench.dataset
    views = [
        pack_logits(pack, dataset.train, dataset, mirrored)
        for mirrored in ((False, True) if flip else (False,))
    ]
    return torch.stack(views, dim=1)
