"""Fine-tune a member's points after truncation, with distillation from its own dense model."""

import torch
from torch import nn

from arsvd import MLP, OperatingPoint, Plan, Spectra, compress, evaluate, pareto
from arsvd.evaluation import operating_point
from arsvd.refit import refit
from arsvd.training import Hyperparameters, Pack, architecture_of, pack_logits, structure, train
from sweeps.config import MemberConfig
from sweeps.trial.analysis import REFIT_ROWS, Measured
from sweeps.trial.sizes import spread_plans
from sweeps.trial.weights import RECOVERED
from sweeps.trial.workbench import Analysis, Workbench

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
    if config.finetune_epochs == 0:
        return {}
    spectra = measured.spectra[analysis.main_basis]
    front = pareto(measured.points)
    plans = spread_plans(spectra, front, measured.dense, config.finetune_points, analysis.max_drop)
    students = [_start(model, spectra, chosen, config, analysis, workbench) for chosen in plans]
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
            recovered[point.named(RECOVERED)] = tuned.cpu()
    return recovered


def _start(
    model: MLP, spectra: Spectra, chosen: Plan, config: MemberConfig, analysis: Analysis, workbench: Workbench
) -> nn.Module:
    """Build what fine-tuning begins with: refitted layers where they are wanted, else truncated ones."""
    if "refit" in analysis.families:
        return refit(model, spectra, chosen, workbench.calibration(config.calibration)[:REFIT_ROWS])
    return compress(model, spectra, chosen)


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
