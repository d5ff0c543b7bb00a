"""Does it help to tell Optuna a member's further points? Hypervolume against trained members, on digits.

A member is measured at many thresholds, and the sampler may be told more than the one that it asked for:
up to `search.inject` of them, fewer where a member has fewer that no other dominates. Members are really
trained, one after the other, in processes of their own, without Ray, so that nothing but the sampler differs:
the n-th member of a run has the same seed in every variant, whatever its trial's number. A sweep takes a
member's seed from that number, and added trials have numbers, too: equal hyperparameters would get other
weights. Runs of one seed are compared with each other.

Optuna counts trials that were added like those that it asked for, so TPE's random start ends after fewer
members. "tpe, 8, random start kept" holds it until as many members were trained as without added trials;
`random_members` is what each run was measured to draw at random. NSGA-II breeds from trials that it asked for
and cannot hear of others: its second variant is a check, where a gain would mean that something else differs.
"""

import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.trial import TrialState
from scipy.stats import t as student

from arsvd import OperatingPoint
from arsvd.data import load
from arsvd.fronts import front_hypervolume
from benchmarks.reporting import arguments, print_table, report
from sweeps.config import MemberConfig, load_config, member_seed
from sweeps.fronts import reference_size
from sweeps.records import MemberRecord
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
    remark = ", random start kept" if kept else ""
    if sampler == "nsga2" and injected:
        remark = " (it does not listen)"
    return f"{sampler}, {injected}{remark}"


def train_member(
    number: int, member: MemberConfig, seed: int, bench: Workbench, analysis: Analysis
) -> MemberRecord:
    """Train a member with another seed than it was asked with.

    Returns:
        Its record under the key and configuration that the study asked for and knows.
    """
    ((record, _),) = run_members([Task(number, replace(member, seed=seed))], bench, analysis)
    return replace(record, config=member, key=member.key(bench.dataset.hash))


def run_variant(variant: tuple[str, int, bool], seed: int, size: Size) -> dict[str, Any]:
    """Train members as one sampler asks for them.

    Returns:
        After each member the hypervolume of all points and of the asked points alone; how many members TPE
        drew at random, None for other samplers; how many trials were added.
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
        # TPE compares it with its finished trials at each draw
        start = getattr(inner.sampler, "_n_startup_trials", None)
        random_members = None if start is None else 0
        for ordinal in range(size.members):
            if start is not None:
                finished = len(inner.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))
                if kept:
                    inner.sampler._n_startup_trials = finished + 1 if ordinal < start else 0
                random_members += finished < inner.sampler._n_startup_trials
            number, member = study.ask()
            record = train_member(number, member, member_seed(seed, ordinal), bench, analysis)
            study.tell(record)
            points += record.points
            asked += [record.asked] if record.asked is not None else []
            for kind, entries in (("all", points), ("asked", asked)):
                sizes = [(point.params, point.accuracy) for point in entries]
                curves[kind].append(front_hypervolume(sizes, reference))
        added = len(inner.get_trials(deepcopy=False)) - size.members
    found = {"variant": name_of(variant), "seed": seed, "random_members": random_members}
    return {**found, "added_trials": added, "curves": curves}


def paired(differences: Sequence[float]) -> tuple[float, tuple[float, float] | None]:
    """Return the mean of differences and its 95 % interval by Student's t, None with fewer than two."""
    mean = statistics.fmean(differences)
    if len(differences) < 2:
        return mean, None
    error = statistics.stdev(differences) / len(differences) ** 0.5
    reach = float(student.ppf(0.975, len(differences) - 1)) * error
    return mean, (mean - reach, mean + reach)


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
    rows: list[list[Any]] = []
    each: list[list[Any]] = []
    summary: dict[str, Any] = {}
    for name, found in by_name.items():
        base = by_name[f"{name.split(',')[0]}, 0"]
        ends = [run["curves"]["all"][-1] for run in found]
        gain = [a - b["curves"]["all"][-1] for a, b in zip(ends, base, strict=True)]
        mean, interval = paired(gain)
        low, high = (None, None) if interval is None else interval
        at = [statistics.fmean(run["curves"]["all"][mark - 1] for run in found) for mark in marks]
        asked = statistics.fmean(run["curves"]["asked"][-1] for run in found)
        drawn = [run["random_members"] for run in found if run["random_members"] is not None]
        start = statistics.fmean(drawn) if drawn else None
        rows.append([name, start, *(f"{v:.4f}" for v in at), f"{asked:.4f}", f"{mean:+.4f}", low, high])
        each.append([name, *(f"{value:+.4f}" for value in gain)])
        summary[name] = {
            "hypervolume": round(at[-1], 4),
            "asked_only": round(asked, 4),
            "random_members": start,
            "added_trials": statistics.fmean(run["added_trials"] for run in found),
            "gain": round(mean, 4),
            "gain_95": None if interval is None else [round(end, 4) for end in interval],
            "gain_by_seed": [round(value, 4) for value in gain],
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
    print(f"digits, n = {size.seeds} seeds; gain: against the same sampler without, 95 % by Student's t\n")
    print_table(head, rows)
    print_table(["gain by seed", *(str(seed) for seed in range(size.seeds))], each)
    wall = round(time.perf_counter() - began, 1)
    setting = {"n": size.seeds, "seeds": list(range(size.seeds)), "members": size.members}
    details = {"changes": size.changes, "wall_seconds": wall, "runs": runs}
    report("injection", given.size, given.results, {**setting, **details}, {"variants": summary})


if __name__ == "__main__":
    main()
