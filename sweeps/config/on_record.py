"""What outlives a release: the version of records, what a missing key means in them, and keys that are gone.

`ABSENT` says of each key of a sweep file what is meant by a file or record on file without it, written before
there was such a key. That is not the default: a new sweep file may mean something else by leaving a key out,
and the default may change. An entry here is frozen for ever, since members' keys hash what differs from it.
"""

from typing import Any

# of all that this release writes into a sweep's directory; it is raised here and nowhere else
RECORD_VERSION = 2

# of keys that no record has ever been without
ALWAYS: Any = object()

ABSENT: dict[str, Any] = {
    "name": None,
    "dataset.name": ALWAYS,
    "dataset.path": None,
    "dataset.label": None,
    "dataset.validation": ALWAYS,
    "dataset.confirmation": None,
    "dataset.seed": ALWAYS,
    "dataset.size": None,
    "dataset.test": None,
    "model.hidden": ALWAYS,
    "model.factors": 1,
    "model.dropout": 0.0,
    "model.reference": ALWAYS,
    "training.epochs": ALWAYS,
    "training.batch_size": ALWAYS,
    "training.lr": ALWAYS,
    "training.weight_decay": 0.0,
    "training.label_smoothing": 0.0,
    "training.schedule": "onecycle",
    "training.flip": "auto",
    "training.seed": None,
    "compression.basis": ALWAYS,
    "compression.rule": "energy",
    "compression.energy": ALWAYS,
    "compression.families": ALWAYS,
    "compression.calibration": ALWAYS,
    "compression.finetune_epochs": 0,
    "compression.finetune_points": ALWAYS,
    "compression.finetune_lr": ALWAYS,
    "compression.distillation.weight": ALWAYS,
    "compression.distillation.temperature": ALWAYS,
    "search.trials": ALWAYS,
    "search.sampler": ALWAYS,
    "search.seed": ALWAYS,
    "search.objectives": ALWAYS,
    "select.max_drop": ALWAYS,
    "select.confidence": None,
    "resources.cpu": ALWAYS,
    "resources.gpu": ALWAYS,
    "resources.pack": ALWAYS,
    "resources.concurrent": ALWAYS,
    "resources.checkpoint_every": ALWAYS,
}

# key: what whoever still writes it is told; files on record lose it
RETIRED = {
    "search.inject": "this key is gone, since further points of a member misled the sampler",
}


def settle(mapping: dict[str, Any]) -> None:
    """Make a sweep file on record say what it meant, whichever release wrote it.

    Args:
        mapping: What the file holds, by section; absent keys are put in, and those that are gone removed.
    """
    for key in RETIRED:
        if (section := _section(mapping, key)) is not None:
            section.pop(key.rpartition(".")[2], None)
    for key, value in ABSENT.items():
        if value is not ALWAYS and (section := _section(mapping, key)) is not None:
            section.setdefault(key.rpartition(".")[2], value)


def _section(mapping: dict[str, Any], key: str) -> dict[str, Any] | None:
    """Return the section that a dotted key belongs to; None where there is something else."""
    section: Any = mapping
    for parent in key.split(".")[:-1]:
        section = section.setdefault(parent, {}) if isinstance(section, dict) else None
    return section if isinstance(section, dict) else None
