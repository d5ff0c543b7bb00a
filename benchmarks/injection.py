"""Does it help to tell Optuna a member's further points? Hypervolume against trained members, on digits.

A member is measured at many thresholds, and the sampler may be told more than the one that it asked for:
`search.inject` of them. Members are really trained, one after the other, in processes of their own, without
Ray, so that nothing but the sampler differs. Members of one seed are compared with each other.

Optuna counts trials that were added like those that it asked for: with 8 further points a member, the first
random members of TPE end after one or two of them. "tpe, 8, random start kept" raises the number of trials
before TPE begins by the same factor, so that both kinds start from equally many random members.
"""

import multiprocessing
import os
import random
import statistics
import tempfile
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import torch

from arsvd import OperatingPoint
from arsvd.data import load
from arsvd.fronts import front_hypervolume
from benchmarks.reporting import arguments, print_table, report
from sweeps.config import load_config
from sweeps.fronts import reference_size
from sweeps.search import Study
from sweeps.trial.member import Task, run_members
from sweeps.trial.workbench import Analysis, Workbench

INJECTED = 8
# what is compared with no injection, sampler by sampler
VARIANTS = (
    ("tpe", 0, False),
    ("tpe", INJECTED, False),
    ("tpe", INJECTED, True),
    ("nsga2", 0, False),
    ("nsga2", INJECTED, False),
    ("random", 0, False),  # it would not listen
)


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        members: trained by each variant.
        seeds: of the search and of the members.
        changes: of the bundled digits sweep.
    """

    members: int
    seeds: int
    changes: tuple[str, ...]


# recovery costs most of a member's time and happens after the sampler was told: left out, for all alike
PLAIN = ("compression.finetune_epochs=0", "compression.families=[threshold, budget]")
SIZES = {
    "full": Size(24, 5, PLAIN),
    "small": Size(8, 2, (*PLAIN, "training.epochs=10")),
    "tiny": Size(2, 1, (*PLAIN, "training.epochs=1")),
}


def name_of(variant: tuple[str, int, bool]) -> str:
    """Name a variant as the report does."""
    sampler, injected, kept = variant
    return f"{sampler}, {injected}{', random start kept' if kept else ''}"


def run_variant(variant: tuple[str, int, bool], seed: int, size: Size) -> dict[str, Any]:
    """Train members as one sampler asks for them.

    Returns:
        After each member the hypervolume of all points and of the asked points alone; how many members were
        asked for before the sampler had as many trials as its random start needs.
    """
    torch.set_num_threads(1)
    sampler, injected, kept = variant
    dataset = load("digits", validation=0.2, seed=seed)
    config = load_config(
        "digits",
        (
            *size.changes,
            f"search.sampler={sampler}",
            f"search.seed={seed}",
            f"search.inject={injected}",
            f"search.trials={size.members}",
        ),
    )
    bench = Workbench(dataset, torch.device("cpu"))
    analysis = Analysis.from_config(config)
    reference = reference_size([dataset.features, *config.model.reference, len(dataset.classes)])[0]
    points: list[OperatingPoint] = []
    asked: list[OperatingPoint] = []
    curves: dict[str, list[float]] = {"all": [], "asked": []}
    with tempfile.TemporaryDirectory() as folder:
        study = Study.in_journal(Path(folder) / "study.journal", "injection", config, dataset.hash)
        inner: optuna.Study = study._study
        start = getattr(inner.sampler, "_n_startup_trials", 0)
        if kept:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                inner.sampler = optuna.samplers.TPESampler(
                    seed=seed,
                    n_startup_trials=start * (1 + injected),
                    constant_liar=True,
                    multivariate=True,
                    group=True,
                )
        random_members = 0
        for _ in range(size.members):
            finished = [t for t in inner.get_trials(deepcopy=False) if t.state.is_finished()]
            random_members += len(finished) < (start * (1 + injected) if kept else start)
            number, member = study.ask()
            ((record, _),) = run_members([Task(number, member)], bench, analysis)
            study.tell(record)
            points += record.points
            asked += [record.asked] if record.asked is not None else []
            for kind, entries in (("all", points), ("asked", asked)):
                sizes = [(point.params, point.accuracy) for point in entries]
                curves[kind].append(front_hypervolume(sizes, reference))
    return {"variant": name_of(variant), "seed": seed, "random_members": random_members, "curves": curves}


def paired(differences: Sequence[float], draws: int = 10_000) -> tuple[float, float, float]:
    """Return the mean of paired differences with its 95 % bootstrap interval over seeds."""
    chooser = random.Random(0)
    means = sorted(statistics.fmean(chooser.choices(differences, k=len(differences))) for _ in range(draws))
    return statistics.fmean(differences), means[int(0.025 * draws)], means[int(0.975 * draws)]


def main() -> None:
    """Run the benchmark."""
    given = arguments(__doc__)
    size = SIZES[given.size]
    began = time.perf_counter()
    workers = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        jobs = [pool.submit(run_variant, v, seed, size) for seed in range(size.seeds) for v in VARIANTS]
        runs = [job.result() for job in jobs]
    by_name = {
        name_of(v): sorted((run for run in runs if run["variant"] == name_of(v)), key=lambda run: run["seed"])
        for v in VARIANTS
    }
    marks = sorted({max(1, size.members // 3), max(1, 2 * size.members // 3), size.members})
    rows, summary = [], {}
    for name, found in by_name.items():
        base = by_name[f"{name.split(',')[0]}, 0"]
        ends = [run["curves"]["all"][-1] for run in found]
        gain = [a - b["curves"]["all"][-1] for a, b in zip(ends, base, strict=True)]
        mean, low, high = paired(gain)
        at = [statistics.fmean(run["curves"]["all"][mark - 1] for run in found) for mark in marks]
        asked = statistics.fmean(run["curves"]["asked"][-1] for run in found)
        start = statistics.fmean(run["random_members"] for run in found)
        rows.append([name, start, *(f"{v:.4f}" for v in at), f"{asked:.4f}", f"{mean:+.4f}", low, high])
        summary[name] = {
            "hypervolume": round(at[-1], 4),
            "asked_only": round(asked, 4),
            "random_members": start,
            "gain": round(mean, 4),
            "gain_95": [round(low, 4), round(high, 4)],
        }
    head = [
        "sampler, injected",
        "random",
        *(f"HV at {m}" for m in marks),
        "asked only",
        "gain",
        "low",
        "high",
    ]
    print(f"digits, n = {size.seeds} seeds; gain: against the same sampler without, 95 % over seeds\n")
    print_table(head, rows)
    wall = round(time.perf_counter() - began, 1)
    setting = {"n": size.seeds, "seeds": list(range(size.seeds)), "members": size.members}
    details = {"changes": size.changes, "wall_seconds": wall, "runs": runs}
    report("injection", given.size, given.results, {**setting, **details}, {"variants": summary})


if __name__ == "__main__":
    main()
