"""Every way to make an MLP small, at equal parameters: `python -m benchmarks.compression --dataset mnist`.

Per seed, the reference network is trained plainly and as LoRITa factors. Every row turns trained weights into
models of many sizes; validation chooses among a row's models, test is only read. Small dense networks of two
shapes get the epochs of the reference and of recovery together, and two learning rates each; the sweep rows
add narrower members, which cost more to train: the table says how much. Seconds are CPU time of one thread,
so that other work on the machine does not count. `benchmarks.compression_summary` makes the figures.
"""

import argparse
import contextlib
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from arsvd import Energy, OperatingPoint, non_dominated, pareto, plan, spectra
from arsvd.candidates import CANDIDATES
from arsvd.candidates.refit import FAMILY as REFIT
from arsvd.data import Dataset, load
from arsvd.evaluation.evaluator import Evaluator, evaluate
from arsvd.fronts import budget_grid, thresholds
from arsvd.training import normalized
from benchmarks.compression_baselines import GRID, Inputs, Measured, kept, rule_rows, small_dense
from benchmarks.compression_recipes import RECIPES, Recipe
from benchmarks.compression_summary import figures
from benchmarks.compression_table import markdown
from benchmarks.environment import environment
from sweeps.ledger.joined_front import reference_size
from sweeps.trial.packs import Outcome, Task, run_members
from sweeps.trial.weights import RECOVERED, MemberWeights
from sweeps.trial.workbench import Analysis, Workbench

THRESHOLDS = tuple(thresholds(0.3, 0.999, GRID))


def run_seed(dataset: str, data_dir: str | None, seed: int) -> dict[str, Any]:
    """Measure every row with one seed, which also chooses the validation split."""
    torch.set_num_threads(1)
    recipe = RECIPES[dataset]
    data = _load(recipe, data_dir, seed)
    bench = Workbench(data, torch.device("cpu"), clock=time.process_time)
    test = (normalized(data.test.images, data.mean, data.std), data.test.labels)
    analysis = Analysis(("activation", "loss"), ("energy",), THRESHOLDS, CANDIDATES.names, 0.005)
    configs = [replace(recipe.plain, seed=seed), replace(recipe.lorita, seed=seed)]
    configs += [replace(configs[1], hidden=hidden) for hidden in recipe.narrow]
    configs += [
        replace(configs[0], hidden=(width,), lr=rate, dropout=0.0)
        for width in recipe.tiny
        for rate in recipe.small_rates
    ]
    outcomes = list(run_members([Task(n, c) for n, c in enumerate(configs)], bench, analysis))
    rows: dict[str, list[Measured]] = {}
    seconds: dict[str, float] = {}
    dense: dict[str, Measured] = {}
    search: dict[str, float] = {}
    outcomes.sort(key=lambda outcome: outcome[0].number)
    for name, (record, weights) in zip(("plain", "LoRITa"), outcomes, strict=False):
        if weights is None or record.dense is None:
            raise RuntimeError(f"{name} training failed: {record.cause}")
        for row, points in _own_rows(name, record.points).items():
            rows[row] = _on_test(weights, points, test)
        dense[name] = _on_test(weights, [record.dense], test)[0]
        seconds |= _own_seconds(name, record.seconds)
        if name == "plain":
            seconds["dense reference"] = record.seconds["train"]
            search = _search_cost(weights, bench, recipe.plain.calibration)
            search["share_of_training"] = search["seconds"] / record.seconds["train"]
            for row, measured in rule_rows(weights, bench, test).items():
                rows[row], spent = measured
                seconds[row] = record.seconds["train"] + spent
    rows |= _sweep_rows(outcomes, test)
    steps = [record.seconds for record, _ in outcomes]
    seconds["sweep, recovery"] = sum(sum(values.values()) for values in steps)
    seconds["sweep, no recovery"] = seconds["sweep, recovery"] - sum(v["recover"] for v in steps)
    started = time.process_time()
    rows["small dense networks"] = small_dense(recipe, bench, test, seed)
    seconds["small dense networks"] = time.process_time() - started
    rows["dense reference"] = [dense["plain"]]
    widths = [data.features, *recipe.plain.hidden, len(data.classes)]
    return {
        "seed": seed,
        "search": search,
        "reference_params": reference_size(widths)[0],
        "dense": {name: {"validation": d[1], "test": d[2].accuracy} for name, d in dense.items()},
        "rows": {row: {"seconds": seconds.get(row), "points": kept(found)} for row, found in rows.items()},
    }


def _load(recipe: Recipe, data_dir: str | None, seed: int) -> Dataset:
    path = None if recipe.folder is None else Path(data_dir or ".") / recipe.folder
    return load(recipe.source, root=data_dir, path=path, validation=recipe.validation, seed=seed)


def _own_rows(name: str, points: Sequence[OperatingPoint]) -> dict[str, list[OperatingPoint]]:
    """Build this project's rows, each with one more family than the one before."""

    def keep(test: Callable[[OperatingPoint], bool]) -> list[OperatingPoint]:
        return [point for point in points if point.family == "dense" or test(point)]

    steps = {
        "energy, loss basis": lambda p: p.basis == "loss" and p.family == "energy",
        "+ budget": lambda p: p.basis == "loss" and p.family in ("energy", "budget"),
        "+ sensitivity": lambda p: p.basis == "loss" and p.family in ("energy", "budget", "sensitivity"),
        "+ local search": lambda p: p.basis == "loss" and p.family not in (REFIT, RECOVERED),
        "front, no recovery": lambda p: p.family != RECOVERED,
        "front, recovery": lambda p: True,
    }
    suffix = "" if name == "plain" else f", {name}"
    return {f"{row}{suffix}": keep(test) for row, test in steps.items()}


def _own_seconds(name: str, steps: dict[str, float]) -> dict[str, float]:
    """Say what a member's front cost; the families within it are measured together."""
    suffix = "" if name == "plain" else f", {name}"
    everything = sum(steps.values())
    return {
        f"front, no recovery{suffix}": everything - steps["recover"],
        f"front, recovery{suffix}": everything,
    }


def _sweep_rows(outcomes: Sequence[Outcome], test: Inputs) -> dict[str, list[Measured]]:
    """Join all members, of the reference's widths and narrower, into one front as a sweep does."""
    rows = {}
    for row, recovery in (("sweep, no recovery", False), ("sweep, recovery", True)):
        points = [
            (point, weights)
            for record, weights in outcomes
            for point in record.points
            if weights is not None and (recovery or point.family != RECOVERED)
        ]
        points.sort(key=lambda entry: (entry[0].params, -entry[0].accuracy))
        keep = non_dominated([(point.params, -point.accuracy) for point, _ in points])
        rows[row] = [
            (point.params, point.accuracy, evaluate(weights.build(point), *test))
            for (point, weights), kept in zip(points, keep, strict=True)
            if kept
        ]
    return rows


def _on_test(weights: MemberWeights, points: Iterable[OperatingPoint], test: Inputs) -> list[Measured]:
    return [(p.params, p.accuracy, evaluate(weights.build(p), *test)) for p in pareto(points)]


def _search_cost(weights: MemberWeights, bench: Workbench, calibration: int) -> dict[str, float]:
    """Time the spectra and the measurement of many distinct points of one member."""
    started = time.process_time()
    found = spectra(weights.dense, bench.calibration(calibration), basis="loss")
    rules = [*(Energy(t) for t in thresholds(0.3, 0.9999, 160)), *budget_grid(found, 160)]
    plans = {p.ranks: p for p in (plan(found, rule) for rule in rules)}
    points = Evaluator(weights.dense, found, *bench.validation).points(list(plans.values()))
    return {"points": len(points), "seconds": time.process_time() - started}


def _all_seeds(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Run the seeds that `--keep` does not hold yet."""
    kept = [arguments.keep / f"{arguments.dataset}-{seed}.json" for seed in range(arguments.seeds)]
    missing = [seed for seed, path in enumerate(kept) if not path.exists()]
    arguments.keep.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.processes, mp_context=context) as pool:
        jobs = {pool.submit(run_seed, arguments.dataset, arguments.data_dir, seed): seed for seed in missing}
        for job in as_completed(jobs):
            kept[jobs[job]].write_text(json.dumps(job.result()), encoding="utf-8")
            print(f"seed {jobs[job]} done", flush=True)
    return [json.loads(path.read_text(encoding="utf-8")) for path in kept]


def main() -> None:
    """Run the benchmark and write its JSON and table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--dataset", choices=sorted(RECIPES), default="digits")
    parser.add_argument("--data-dir")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--keep", type=Path, help="Keep each seed here as it ends, and go on from there.")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        if arguments.keep is None:
            arguments.keep = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        seeds = _all_seeds(arguments)
    recipe = RECIPES[arguments.dataset]
    report = {
        "benchmark": "compression",
        "dataset": arguments.dataset,
        "n": arguments.seeds,
        "environment": environment(),
        "recipe": {"plain": recipe.plain.to_dict(), "lorita": recipe.lorita.to_dict()},
        "seeds": seeds,
    }
    arguments.results.mkdir(parents=True, exist_ok=True)
    stem = arguments.results / f"compression-{arguments.dataset}"
    table = markdown(report)
    stem.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    stem.with_suffix(".md").write_text(table, encoding="utf-8")
    print(table)
    volumes = {
        row: round(statistics.fmean(figures(s, row)["hypervolume"] for s in seeds), 4)
        for row in seeds[0]["rows"]
    }
    print(json.dumps({"benchmark": "compression", "dataset": arguments.dataset, "hypervolume": volumes}))


if __name__ == "__main__":
    main()
