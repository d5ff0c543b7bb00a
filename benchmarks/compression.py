"""Every way to make an MLP small, at equal parameters: `python -m benchmarks.compression --dataset mnist`.

Per seed, the reference network is trained plainly and as LoRITa factors. Every row turns trained weights into
models of many sizes; validation chooses among a row's models, test is only read. Small dense networks get the
epochs of the reference and of recovery together, and two learning rates each; the sweep rows add narrower
members, which cost about as much to train. Seconds are CPU time of one thread, so that other work on the
machine does not count.
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

from arsvd import Energy, Entropy, OperatingPoint, RankRule, Spectra, non_dominated, pareto, plan, spectra
from arsvd.data import Dataset, load
from arsvd.evaluation import Evaluator, Metrics, evaluate
from arsvd.fronts import ENERGY_RANGES, budget_grid, fixed_grid, front_hypervolume, thresholds
from arsvd.training import Hyperparameters, Pack, dense_architecture, normalized, train
from benchmarks.compression_recipes import RECIPES, Recipe
from benchmarks.compression_table import markdown
from benchmarks.environment import environment
from sweeps.fronts import reference_size
from sweeps.trial.member import Outcome, Task, run_members
from sweeps.trial.weights import RECOVERED, REFIT, MemberWeights
from sweeps.trial.workbench import Analysis, Workbench

RATIOS = (5, 10, 15, 20, 30)
SMALL_RATIOS = (3, *RATIOS, 60)  # a denser curve, so that its hypervolume is not short of steps
DROPS = (0.002, 0.005, 0.010)
GRID = 64
FAMILIES = ("threshold", "budget", "sensitivity", "local", "refit")
THRESHOLDS = tuple(thresholds(0.3, 0.999, GRID))

Measured = tuple[int, float, Metrics]  # parameters, validation accuracy, test metrics
Inputs = tuple[torch.Tensor, torch.Tensor]


def run_seed(dataset: str, data_dir: str | None, seed: int) -> dict[str, Any]:
    """Measure every row with one seed, which also chooses the validation split."""
    torch.set_num_threads(1)
    recipe = RECIPES[dataset]
    data = _load(recipe, data_dir, seed)
    bench = Workbench(data, torch.device("cpu"), clock=time.process_time)
    test = (normalized(data.test.images, data.mean, data.std), data.test.labels)
    analysis = Analysis(("activation", "loss"), ("energy",), THRESHOLDS, FAMILIES, 0.005)
    configs = [replace(recipe.plain, seed=seed), replace(recipe.lorita, seed=seed)]
    configs += [replace(configs[1], hidden=hidden) for hidden in recipe.narrow]
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
            for row, measured in _rule_rows(weights, bench, test).items():
                rows[row], spent = measured
                seconds[row] = record.seconds["train"] + spent
    rows |= _sweep_rows(outcomes, test)
    steps = [record.seconds for record, _ in outcomes]
    seconds["sweep, recovery"] = sum(sum(values.values()) for values in steps)
    seconds["sweep, no recovery"] = seconds["sweep, recovery"] - sum(v["recover"] for v in steps)
    started = time.process_time()
    rows["small dense networks"] = _small_dense(recipe, bench, test, seed)
    seconds["small dense networks"] = time.process_time() - started
    rows["dense reference"] = [dense["plain"]]
    widths = [data.features, *recipe.plain.hidden, len(data.classes)]
    best = max(dense.values(), key=lambda found: found[1])
    summary = _summary(rows, best, reference_size(widths)[0], seconds, dense)
    return {"seed": seed, "search": search, **summary}


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


def _rule_rows(
    weights: MemberWeights, bench: Workbench, test: Inputs
) -> dict[str, tuple[list[Measured], float]]:
    """Measure the rules that others use, on the plainly trained reference; and how long the search took."""
    weight, activation = weights.spectra["weight"], weights.spectra["activation"]
    low, high = ENERGY_RANGES["weight"]
    rules: dict[str, tuple[Spectra, list[RankRule]]] = {
        "fixed rank": (weight, fixed_grid(GRID)),
        "weight energy (v1)": (weight, [Energy(t) for t in thresholds(low, high, GRID)]),
        "spectral entropy (v2)": (weight, [Entropy(t) for t in thresholds(0.05, 0.999, GRID)]),
        "activation energy": (activation, [Energy(t) for t in thresholds(low, 0.9999, GRID)]),
    }
    rows = {}
    for row, (found, chosen) in rules.items():
        started = time.process_time()
        plans = {p.ranks: p for p in (plan(found, rule) for rule in chosen)}
        points = Evaluator(weights.dense, found, *bench.validation).points(list(plans.values()))
        spent = time.process_time() - started
        on_test = Evaluator(weights.dense, found, *test)
        measured = [(p.params, p.accuracy, on_test.metrics([p.ranks])[p.ranks]) for p in pareto(points)]
        rows[row] = (measured, spent)
    return rows


def _search_cost(weights: MemberWeights, bench: Workbench, calibration: int) -> dict[str, float]:
    """Time the spectra and the measurement of many distinct points of one member."""
    started = time.process_time()
    found = spectra(weights.dense, bench.calibration(calibration), basis="loss")
    rules = [*(Energy(t) for t in thresholds(0.3, 0.9999, 160)), *budget_grid(found, 160)]
    plans = {p.ranks: p for p in (plan(found, rule) for rule in rules)}
    points = Evaluator(weights.dense, found, *bench.validation).points(list(plans.values()))
    return {"points": len(points), "seconds": time.process_time() - started}


def _small_dense(recipe: Recipe, bench: Workbench, test: Inputs, seed: int) -> list[Measured]:
    """Train small dense networks of the reference's proportions, one a ratio at each of two rates."""
    config, data = recipe.plain, bench.dataset
    flip = data.colour if config.flip is None else config.flip
    reference = reference_size([data.features, *config.hidden, len(data.classes)])[0]
    found = []
    for ratio in SMALL_RATIOS:
        widths = _widths(data.features, config.hidden, len(data.classes), reference // ratio)
        members = [
            # little dropout: a small network underfits before it overfits
            Hyperparameters(lr, config.weight_decay, 0.0, config.label_smoothing, seed)
            for lr in recipe.small_rates
        ]
        pack = Pack.from_seeds([dense_architecture(widths)] * len(members), [seed] * len(members))
        epochs = config.epochs + config.finetune_epochs
        train(pack, data, members, epochs=epochs, batch_size=config.batch_size, flip=flip)
        models = [pack.model(member, merge=True) for member in range(len(members))]
        reached = [evaluate(model, *bench.validation).accuracy for model in models]
        chosen = max(range(len(models)), key=lambda index: reached[index])
        found.append((reference_size(widths)[0], reached[chosen], evaluate(models[chosen], *test)))
    return sorted(found, key=lambda entry: entry[0])


def _widths(features: int, hidden: Sequence[int], classes: int, limit: int) -> list[int]:
    """Scale hidden widths by one factor to the most parameters below a limit."""
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        widths = [features, *(max(1, int(width * middle)) for width in hidden), classes]
        low, high = (middle, high) if reference_size(widths)[0] <= limit else (low, middle)
    return [features, *(max(1, int(width * low)) for width in hidden), classes]


def _summary(
    rows: dict[str, list[Measured]],
    dense: Measured,
    reference: int,
    seconds: dict[str, float],
    all_dense: dict[str, Measured],
) -> dict[str, Any]:
    return {
        "reference_params": reference,
        "dense": {n: {"validation": d[1], "test": d[2].accuracy} for n, d in all_dense.items()},
        "rows": {
            row: {**_row(found, dense, reference), "seconds": seconds.get(row)} for row, found in rows.items()
        },
    }


def _row(found: list[Measured], dense: Measured, reference: int) -> dict[str, Any]:
    def best_below(params: float) -> Measured | None:
        fits = [entry for entry in found if entry[0] <= params]
        return max(fits, key=lambda entry: (entry[1], -entry[0]), default=None)

    at = {str(ratio): best_below(reference / ratio) for ratio in RATIOS}
    within = {}
    for drop in DROPS:
        # what validation chooses at each size, smallest first; the first that holds on test
        chosen = [best_below(entry[0]) for entry in sorted(found, key=lambda entry: entry[0])]
        holding = [c[0] for c in chosen if c is not None and c[2].accuracy >= dense[2].accuracy - drop]
        within[str(drop)] = reference / min(holding) if holding else None
    return {
        "models": len(found),
        "accuracy": {ratio: None if entry is None else entry[2].accuracy for ratio, entry in at.items()},
        "macro_f1": {ratio: None if entry is None else entry[2].macro_f1 for ratio, entry in at.items()},
        "validation": {ratio: None if entry is None else entry[1] for ratio, entry in at.items()},
        "compression_within": within,
        "hypervolume": front_hypervolume([(p, m.accuracy) for p, _, m in found], reference),
        "points": [[params, validation, metrics.accuracy] for params, validation, metrics in found],
    }


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
        row: round(statistics.fmean(s["rows"][row]["hypervolume"] for s in seeds), 4)
        for row in seeds[0]["rows"]
    }
    print(json.dumps({"benchmark": "compression", "dataset": arguments.dataset, "hypervolume": volumes}))


if __name__ == "__main__":
    main()
