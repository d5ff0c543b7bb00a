"""Every way to make an MLP small, at equal parameters: `python -m benchmarks.compression --dataset mnist`.

Per seed, the reference network is trained plainly and as LoRITa factors. Every row turns trained weights into
models of many sizes; validation chooses among a row's models, test is only read. Small dense networks get the
epochs of the reference and of recovery together, and two learning rates each; the sweep rows add narrower
members, which cost about as much to train.
"""

import argparse
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from arsvd import Energy, Entropy, OperatingPoint, RankRule, Spectra, non_dominated, pareto, plan
from arsvd.data import Dataset, load
from arsvd.evaluation import Evaluator, Metrics, evaluate
from arsvd.fronts import ENERGY_RANGES, fixed_grid, front_hypervolume, thresholds
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
    bench = Workbench(data, torch.device("cpu"))
    test = (normalized(data.test.images, data.mean, data.std), data.test.labels)
    analysis = Analysis(("activation", "loss"), ("energy",), THRESHOLDS, FAMILIES, 0.005)
    configs = [replace(recipe.plain, seed=seed), replace(recipe.lorita, seed=seed)]
    configs += [replace(configs[1], hidden=hidden) for hidden in recipe.narrow]
    outcomes = list(run_members([Task(n, c) for n, c in enumerate(configs)], bench, analysis))
    rows: dict[str, list[Measured]] = {}
    seconds: dict[str, float] = {}
    dense: dict[str, Measured] = {}
    outcomes.sort(key=lambda outcome: outcome[0].number)
    for name, (record, weights) in zip(("plain", "LoRITa"), outcomes, strict=False):
        if weights is None or record.dense is None:
            raise RuntimeError(f"{name} training failed: {record.cause}")
        for row, points in _own_rows(name, record.points).items():
            rows[row] = _on_test(weights, points, test)
        dense[name] = _on_test(weights, [record.dense], test)[0]
        seconds |= {f"{name} {step}": value for step, value in record.seconds.items()}
        if name == "plain":
            rows |= _rule_rows(weights, bench, test)
    rows |= _sweep_rows(outcomes, test)
    narrow = [record.seconds for record, _ in outcomes[2:]]
    seconds["narrower members, all steps"] = sum(value for steps in narrow for value in steps.values())
    started = time.perf_counter()
    rows["small dense networks"] = _small_dense(recipe, bench, test, seed)
    seconds["small dense networks"] = time.perf_counter() - started
    rows["dense reference"] = [dense["plain"]]
    widths = [data.features, *recipe.plain.hidden, len(data.classes)]
    best = max(dense.values(), key=lambda found: found[1])
    return _summary(rows, best, reference_size(widths)[0], seconds, seed, dense)


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


def _rule_rows(weights: MemberWeights, bench: Workbench, test: Inputs) -> dict[str, list[Measured]]:
    """Measure the rules that others use, on the plainly trained reference."""
    weight, activation = weights.spectra["weight"], weights.spectra["activation"]
    low, high = ENERGY_RANGES["weight"]
    rules: dict[str, tuple[Spectra, list[RankRule]]] = {
        "fixed rank": (weight, fixed_grid(GRID)),
        "weight energy (v1)": (weight, [Energy(t) for t in thresholds(low, high, GRID)]),
        "spectral entropy (v2)": (weight, [Entropy(t) for t in thresholds(0.05, 0.999, GRID)]),
        "activation energy": (activation, [Energy(t) for t in thresholds(low, 0.9999, GRID)]),
    }
    rows = {}
    for row, (spectra, chosen) in rules.items():
        plans = {p.ranks: p for p in (plan(spectra, rule) for rule in chosen)}
        points = Evaluator(weights.dense, spectra, *bench.validation).points(list(plans.values()))
        on_test = Evaluator(weights.dense, spectra, *test)
        rows[row] = [(p.params, p.accuracy, on_test.metrics([p.ranks])[p.ranks]) for p in pareto(points)]
    return rows


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
    seed: int,
    all_dense: dict[str, Measured],
) -> dict[str, Any]:
    return {
        "seed": seed,
        "reference_params": reference,
        "dense": {n: {"validation": d[1], "test": d[2].accuracy} for n, d in all_dense.items()},
        "seconds": {step: round(value, 1) for step, value in seconds.items()},
        "rows": {row: _row(found, dense, reference) for row, found in rows.items()},
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


def main() -> None:
    """Run the benchmark and write its JSON and table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--dataset", choices=sorted(RECIPES), default="digits")
    parser.add_argument("--data-dir")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    started = time.perf_counter()
    pool = ProcessPoolExecutor(arguments.processes, mp_context=multiprocessing.get_context("spawn"))
    with pool:
        jobs = [
            pool.submit(run_seed, arguments.dataset, arguments.data_dir, seed)
            for seed in range(arguments.seeds)
        ]
        seeds = [job.result() for job in jobs]
    recipe = RECIPES[arguments.dataset]
    report = {
        "benchmark": "compression",
        "dataset": arguments.dataset,
        "n": arguments.seeds,
        "environment": environment(),
        "recipe": {"plain": recipe.plain.to_dict(), "lorita": recipe.lorita.to_dict()},
        "wall_seconds": round(time.perf_counter() - started, 1),
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
