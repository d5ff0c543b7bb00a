"""A sweep of this project against one written from Ray Tune's documentation, to the same hypervolume.

`benchmarks/naive_sweep.py` runs for a limited number of trials. The hypervolume that it ends with is the
goal, and the sweep of this project (the bundled MNIST one) is given the same cores until it is reached. Both
are processes of their own, timed from their start. Which part brings how much, step by step:

- `reuse`, `memory`: the naive script with one change each; a few trials give the seconds a trial, and the
  number of trials to the goal is that of the plain script;
- `thresholds`: this project's members, measured at many thresholds in the naive script's basis and nothing
  else: how many of them reach the goal;
- `sweep`: everything, as it is.

`activation` is the plain script with this library's basis: what is left once the user knows it.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arsvd.data import data_root
from arsvd.fronts import front_hypervolume
from benchmarks.reporting import arguments, print_table, report
from sweeps.fronts import reference_size
from sweeps.ledger import Ledger, sweep_ids

REFERENCE = reference_size([784, 512, 256, 10])[0]


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        trials: of each variant of the naive script.
        members: of this project's sweep.
        epochs: of every training.
    """

    trials: Mapping[str, int]
    members: int
    epochs: int


SIZES = {
    "full": Size({"plain": 32, "activation": 6, "reuse": 4, "memory": 4}, 6, 10),
    "small": Size({"plain": 2, "memory": 2}, 2, 1),
    "tiny": Size({"plain": 2}, 1, 1),
}


def run_naive(variant: str, trials: int, epochs: int, data_dir: Path, folder: Path) -> list[dict[str, Any]]:
    """Run a variant of the naive script; one entry a trial, with its seconds since the script's start."""
    log = folder / f"{variant}.jsonl"
    command = [sys.executable, "-m", "benchmarks.naive_sweep", "--data-dir", str(data_dir)]
    command += ["--variant", variant, "--trials", str(trials), "--epochs", str(epochs)]
    command += ["--storage", str(folder / variant), "--log", str(log)]
    began = _run(command, folder, {"RAY_USAGE_STATS_ENABLED": "0"})
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    return with_hypervolume([(line.pop("time") - began, line) for line in lines])


def run_sweep(members: int, epochs: int, data_dir: Path, folder: Path) -> list[dict[str, Any]]:
    """Run the bundled sweep by its command; one entry a member, as `run_naive`."""
    home = folder / "home"
    command = [sys.executable, "-m", "sweeps.cli", "sweep", "mnist", f"search.trials={members}"]
    command += [f"training.epochs={epochs}", "--data-dir", str(data_dir), "--quiet"]
    began = _run(command, folder, {"ARSVD_HOME": str(home), "MLFLOW_TRACKING_URI": ""})
    total = time.time() - began
    ledger = Ledger.open(home, sweep_ids(home)[0])
    entries = []
    for record in ledger.members():
        points = [(point.params, point.accuracy) for point in record.points]
        weight = [(point.params, point.accuracy) for point in record.baselines.get("weight energy", ())]
        filed = (ledger.path / "members" / f"{record.key}.json").stat().st_mtime
        values = {"points": points, "weight_points": weight, "seconds": record.seconds, "total": total}
        entries.append((filed - began, values))
    return with_hypervolume(entries)


def _run(command: Sequence[str], folder: Path, variables: Mapping[str, str]) -> float:
    began = time.time()
    done = subprocess.run(
        command, env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-4000:]}")
    return began


def with_hypervolume(entries: Iterable[tuple[float, dict[str, Any]]]) -> list[dict[str, Any]]:
    """Order entries by time and add the hypervolume so far, of all points and of the weight basis's alone."""
    found: list[dict[str, Any]] = []
    points: list[tuple[int, float]] = []
    weight: list[tuple[int, float]] = []
    for seconds, values in sorted(entries, key=lambda entry: entry[0]):
        points += values.pop("points", None) or [(values["params"], values["accuracy"])]
        weight += values.pop("weight_points", [])
        volumes = {
            "hypervolume": front_hypervolume(points, REFERENCE),
            "weight_hypervolume": front_hypervolume(weight, REFERENCE),
        }
        found.append({"time": seconds, **values, **volumes})
    return found


def time_to(entries: Sequence[Mapping[str, Any]], goal: float, kind: str = "hypervolume") -> float | None:
    """Return the seconds until a hypervolume was reached; None where it was not."""
    return next((float(entry["time"]) for entry in entries if entry[kind] >= goal), None)


def seconds_a_trial(entries: Sequence[Mapping[str, Any]], cores: int) -> float:
    """Return what a trial takes of the wall clock, start-up shared out, while all cores have one."""
    done = len(entries) - cores + 1 if len(entries) > cores else len(entries)
    seconds = float(entries[done - 1]["time"])
    return seconds / done if len(entries) > cores else seconds


def parts(
    naive: Mapping[str, Sequence[Mapping[str, Any]]], own: Sequence[Mapping[str, Any]], cores: int
) -> list[dict[str, Any]]:
    """Say how long each step of the way from the naive script to this project takes to the goal."""
    plain = naive["plain"]
    goal = plain[-1]["hypervolume"]
    trials = next(index for index, entry in enumerate(plain, start=1) if entry["hypervolume"] >= goal)
    steps: list[tuple[str, str, float | None]] = [
        ("plain", f"measured, {trials} trials", time_to(plain, goal))
    ]
    for variant in ("reuse", "memory"):
        if variant in naive:
            each = seconds_a_trial(naive[variant], cores)
            steps.append((variant, f"{each:.1f} s x {trials} trials", each * trials))
    weight = time_to(own, goal, "weight_hypervolume")
    how = "measured: the sweep's members, weight basis" if weight else "not reached"
    steps += [("thresholds", how, weight), ("sweep", "measured", time_to(own, goal))]
    whole = steps[0][2] or float("nan")
    return [
        {
            "step": step,
            "how": how,
            "seconds": seconds,
            "times_faster": None if seconds is None else whole / seconds,
        }
        for step, how, seconds in steps
    ]


def _against(entries: Sequence[Mapping[str, Any]], own: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Compare a naive script with the sweep at the hypervolumes that it had after 1, 2, 4, … trials."""
    times: dict[str, float | None] = {}
    counts = sorted({2**power for power in range(10) if 2**power <= len(entries)} | {len(entries)})
    for count in counts:
        ours = time_to(own, entries[count - 1]["hypervolume"])
        times[str(count)] = None if ours is None else round(entries[count - 1]["time"] / ours, 2)
    return {
        "trials": len(entries),
        "hypervolume": round(entries[-1]["hypervolume"], 4),
        "seconds": round(entries[-1]["time"], 1),
        "times_faster": times[str(len(entries))],
        "times_faster_by_trials": times,
    }


def main() -> None:
    """Run the benchmark."""
    given = arguments(__doc__, data=True)
    size = SIZES[given.size]
    cores = len(os.sched_getaffinity(0))
    data_dir = Path(data_root(given.data_dir)).absolute()
    with tempfile.TemporaryDirectory(prefix="arsvd-naive-") as name:
        folder = Path(name)
        own = run_sweep(size.members, size.epochs, data_dir, folder)
        naive = {
            variant: run_naive(variant, trials, size.epochs, data_dir, folder)
            for variant, trials in size.trials.items()
        }
    goal = naive["plain"][-1]["hypervolume"]
    rows = parts(naive, own, cores)
    print(f"MNIST, {size.epochs} epochs, {cores} cores; goal: hypervolume {goal:.4f}\n")
    print_table(list(rows[0]), [list(row.values()) for row in rows])
    curves = [
        [name, index, entry["time"], f"{entry['hypervolume']:.4f}"]
        for name, entries in {"sweep": own, **naive}.items()
        for index, entry in enumerate(entries, start=1)
    ]
    print_table(["which", "trials", "seconds", "hypervolume"], curves)
    against = {name: _against(naive[name], own) for name in ("plain", "activation") if name in naive}
    summary = {
        "against": against,
        "own_hypervolume": round(own[-1]["hypervolume"], 4),
        "own_first_member_seconds": round(own[0]["time"], 1),
        "goal_reached": time_to(own, goal) is not None,
        "parts": {
            row["step"]: None if row["times_faster"] is None else round(row["times_faster"], 2)
            for row in rows
        },
    }
    found = {"parts": rows, "sweep": own, "naive": naive, "n": 1, "seeds": [0], "epochs": size.epochs}
    report("naive", given.size, given.results, found, summary)


if __name__ == "__main__":
    main()
