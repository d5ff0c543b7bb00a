"""A sweep of this project against one written from Ray Tune's documentation, to the same hypervolume.

`benchmarks/naive_sweep.py` runs for a limited number of trials. The hypervolume that all of them together end
with is the goal, and the sweep of this project (the bundled MNIST one) is given the same cores until it is
reached. Both are processes of their own, timed from their start, and see no GPU.

`times_faster_by_trials` comes first: the script's seconds until its 1st, 2nd, 4th, … trial had ended over the
seconds that the sweep takes to the same hypervolume. The ratio grows with the number of trials by
construction: the script pays for each trial, while the sweep's first member, measured at many thresholds, is
often ahead of all of them. None of these ratios is the speed of this project; each holds for so many trials.

Which part brings how much, step by step:

- `reuse`, `memory`: the naive script with one change each. Compared are the seconds a trial after the first
  wave (as many trials as cores), over the same trials of the plain script: start-up counts once, and only in
  the seconds to the goal, which are extrapolated to as many trials as the plain script takes;
- `thresholds`: this project's members, measured at many thresholds in the naive script's basis and nothing
  else: when they reach the goal;
- `sweep`: everything, as it is.

`activation` is the plain script with this library's basis: what is left once the user knows it.

The first trials have the same widths and hyperparameters in every variant, see `naive_sweep.py`; the log is
checked, and a row says so where it is not true.
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
from benchmarks.reporting import arguments, lacks_mnist, print_table, report
from sweeps.ledger.joined_front import reference_size
from sweeps.ledger.ledger import Ledger, sweep_ids

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


# 8 trials: TPE draws the first 10 at random, so that all variants have the same; two waves at least
SIZES = {
    "full": Size({"plain": 16, "activation": 6, "reuse": 6, "memory": 6}, 6, 10),
    "small": Size({"plain": 4, "memory": 4}, 2, 1),
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
    command += [f"training.epochs={epochs}", "resources.gpu=0", "--data-dir", str(data_dir), "--quiet"]
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
    environment = {**os.environ, **variables, "CUDA_VISIBLE_DEVICES": ""}  # the naive script trains on cores
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
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


@dataclass(frozen=True)
class Pace:
    """How a script goes on once all cores have had a trial.

    Attributes:
        first_wave: seconds until as many trials as cores have ended, the script's start-up among them.
        a_trial: seconds of the wall clock that every further trial takes.
        cores: trials at a time.
    """

    first_wave: float
    a_trial: float
    cores: int

    def seconds(self, trials: int) -> float:
        """Return when so many trials will have ended."""
        return self.first_wave + self.a_trial * max(0, trials - self.cores)


def pace(entries: Sequence[Mapping[str, Any]], cores: int) -> Pace | None:
    """Measure a script's pace over its whole waves; None where there is but one.

    A wave is as many trials as cores. Times from the end of the first wave to the end of the last hold no
    start-up, whether the trials of a wave end together or in turn.
    """
    whole = len(entries) // cores * cores
    if whole <= cores:
        return None
    first = float(entries[cores - 1]["time"])
    return Pace(first, (float(entries[whole - 1]["time"]) - first) / (whole - cores), cores)


def same_trials(
    plain: Sequence[Mapping[str, Any]], variant: Sequence[Mapping[str, Any]]
) -> Sequence[Mapping[str, Any]] | None:
    """Return the plain script's trials that were drawn like the variant's; None where one is missing."""
    drawn = [entry["drawn"] for entry in variant]
    found = [entry for entry in plain if entry["drawn"] in drawn]
    return found if len(found) == len(variant) else None


def _step(
    variant: str,
    plain: Sequence[Mapping[str, Any]],
    entries: Sequence[Mapping[str, Any]],
    trials: int,
    cores: int,
) -> dict[str, Any]:
    """Compare one variant of the script with the plain one, trial by trial."""
    same = same_trials(plain, entries)
    own, other = pace(entries, cores), pace(same or plain[: len(entries)], cores)
    if own is None or other is None:
        how = f"{len(entries)} trials on {cores} cores are less than two waves"
        return {"step": variant, "how": how, "seconds": None, "times_faster": None}
    which = "the same" if same else "others, the draws differ:"
    return {
        "step": variant,
        "how": f"{own.a_trial:.2f} s a trial, plain {other.a_trial:.2f} s, {which} {len(entries)} trials",
        "seconds": own.seconds(trials),
        "times_faster": other.a_trial / own.a_trial,
    }


def parts(
    naive: Mapping[str, Sequence[Mapping[str, Any]]], own: Sequence[Mapping[str, Any]], cores: int
) -> list[dict[str, Any]]:
    """Say what each step of the way from the naive script to this project brings.

    Returns:
        A row a step: seconds to the goal, and how much faster than the plain script. Variants of the script
        are compared by seconds a trial, all else by seconds to the goal.
    """
    plain = naive["plain"]
    goal = plain[-1]["hypervolume"]
    trials = next(index for index, entry in enumerate(plain, start=1) if entry["hypervolume"] >= goal)
    whole = float(plain[trials - 1]["time"])
    rows = [{"step": "plain", "how": f"measured, {trials} trials", "seconds": whole, "times_faster": 1.0}]
    rows += [_step(name, plain, naive[name], trials, cores) for name in ("reuse", "memory") if name in naive]
    weight = time_to(own, goal, "weight_hypervolume")
    reached = (
        ("thresholds", "measured: the sweep's members, weight basis", weight),
        ("sweep", "measured", time_to(own, goal)),
    )
    for step, how, seconds in reached:
        faster = None if seconds is None else whole / seconds
        how = "not reached" if seconds is None else how
        rows.append({"step": step, "how": how, "seconds": seconds, "times_faster": faster})
    return rows


def times_faster(
    entries: Sequence[Mapping[str, Any]], own: Sequence[Mapping[str, Any]]
) -> dict[str, float | None]:
    """Compare a script with the sweep at the hypervolumes that it had after 1, 2, 4, … and all trials."""
    found: dict[str, float | None] = {}
    for count in sorted({2**power for power in range(10) if 2**power <= len(entries)} | {len(entries)}):
        ours = time_to(own, entries[count - 1]["hypervolume"])
        found[str(count)] = None if ours is None else round(entries[count - 1]["time"] / ours, 2)
    return found


def main() -> None:
    """Run the benchmark."""
    given = arguments(__doc__)
    if lacks_mnist("naive", given):
        return
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
    meaning = f"hypervolume {goal:.4f}, what all {len(naive['plain'])} trials of the plain script end with"
    faster = {name: times_faster(naive[name], own) for name in ("plain", "activation") if name in naive}
    print(f"MNIST, {size.epochs} epochs, {cores} cores; goal: {meaning}\n")
    print("times faster to the hypervolume that the script has after so many trials; it grows with them\n")
    pairs = [[name, count, ratio] for name, ratios in faster.items() for count, ratio in ratios.items()]
    print_table(["script", "trials", "times_faster"], pairs)
    print_table(list(rows[0]), [list(row.values()) for row in rows])
    curves = [
        [name, index, entry["time"], f"{entry['hypervolume']:.4f}"]
        for name, entries in {"sweep": own, **naive}.items()
        for index, entry in enumerate(entries, start=1)
    ]
    print_table(["which", "trials", "seconds", "hypervolume"], curves)
    summary = {
        "times_faster_by_trials": faster,
        "goal": meaning,
        "script_hypervolume": {name: round(naive[name][-1]["hypervolume"], 4) for name in faster},
        "script_seconds": {name: round(naive[name][-1]["time"], 1) for name in faster},
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
