"""Fine-tune a member's points after truncation, with distillation from its own dense model."""

import math

import numpy as np
import torch

from arsvd import MLP, Budget, OperatingPoint, Plan, compress, evaluate, pareto, plan
from arsvd.evaluation import operating_point
from arsvd.training import Hyperparameters, Pack, architecture_of, pack_logits, structure, train
from sweeps.config import MemberConfig
from sweeps.trial.analysis import Measured
from sweeps.trial.weights import RECOVERED
from sweeps.trial.workbench import Analysis, Workbench

SPAN = 4.0  # fine-tuned sizes reach from where truncation begins to cost accuracy down to a quarter of it
BATCH_SIZE = 256


def recover(
    model: MLP, measured: Measured, config: MemberConfig, analysis: Analysis, workbench: Workbench, flip: bool
) -> dict[OperatingPoint, MLP]:
    """Fine-tune points spread over a member's front, as few packs as their shapes allow.

    Args:
        model: the dense member, the teacher; not changed.
        measured: its spectra and points.
        config: how many points and epochs, the learning rate, the distillation.
        analysis: the bases and the drop that the best point may have.
        workbench: data and device.
        flip: whether training images are mirrored at random.

    Returns:
        Each recovered operating point with its model; empty where nothing is compressed or asked for.
    """
    plans = _plans(measured, config, analysis)
    if config.finetune_epochs == 0 or not plans:
        return {}
    basis = plans[0].basis
    students = [compress(model, measured.spectra[basis], chosen) for chosen in plans]
    teacher = _teacher(model, workbench, flip)
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, student in enumerate(students):
        groups.setdefault(structure(architecture_of(student)), []).append(index)
    settings = Hyperparameters(
        lr=config.finetune_lr,
        seed=config.seed,
        distillation=config.distillation_weight,
        temperature=config.distillation_temperature,
    )
    recovered: dict[OperatingPoint, MLP] = {}
    for members in groups.values():
        pack = Pack.from_models([students[index] for index in members], workbench.device)
        result = train(
            pack,
            workbench.dataset,
            [settings] * len(members),
            epochs=config.finetune_epochs,
            batch_size=min(config.batch_size, BATCH_SIZE),
            flip=flip,
            teacher=teacher,
        )
        for position, index in enumerate(members):
            if position in result.failures:
                continue
            tuned = pack.model(position, merge=False)
            metrics = evaluate(tuned.to(workbench.device), *workbench.validation)
            point = operating_point(plans[index], metrics)
            recovered[_as_recovered(point)] = tuned.cpu()
    return recovered


def _plans(measured: Measured, config: MemberConfig, analysis: Analysis) -> list[Plan]:
    """Choose budgets evenly in log, from the smallest point that loses next to nothing downwards."""
    basis = "activation" if "activation" in analysis.bases else "weight"
    spectra = measured.spectra[basis]
    floor = measured.dense.accuracy - analysis.max_drop / 2
    lossless = [point.params for point in pareto(measured.points) if point.accuracy >= floor]
    smallest = spectra.params([s.worthwhile(1) for s in spectra])
    high = max(smallest, min(lossless, default=measured.dense.params))
    low = max(smallest, high / SPAN)
    sizes = np.geomspace(low, high, config.finetune_points)
    plans = {p.ranks: p for p in (plan(spectra, Budget(params=math.ceil(size))) for size in sizes)}
    return [p for p in plans.values() if any(rank is not None for rank in p.ranks)]


@torch.no_grad()
def _teacher(model: MLP, workbench: Workbench, flip: bool) -> torch.Tensor:
    """Compute the dense member's logits on the training images: (1, flips, samples, classes)."""
    pack = Pack.from_models([model], workbench.device)
    dataset = workbench.dataset
    views = [
        pack_logits(pack, dataset.train, dataset, mirrored)
        for mirrored in ((False, True) if flip else (False,))
    ]
    return torch.stack(views, dim=1)


def _as_recovered(point: OperatingPoint) -> OperatingPoint:
    return OperatingPoint(**{**point.__dict__, "family": RECOVERED})
