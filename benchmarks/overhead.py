"""What a real sweep takes beyond training: wall time over the training time of its own members.

The bundled MNIST sweep of 32 members on the cores of this machine, by the same calls as `arsvd sweep`, with a
real MLflow store in a file; a GPU is left alone. Three ratios, each of the wall time from the start of this
process to the end of the sweep over (seconds of work / cores):

- `training`: work is what the members' own training takes, nothing else;
- `training_and_recovery`: fine-tuning after compression is training, too;
- `work`: spectra and evaluation are work as well; what is left is what the machinery costs.

Seconds of work are those in the members' records: measured while the other core works, so slower than alone.
`alone` says how much: two of the members trained again in this process while nothing else runs.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

from benchmarks.processes import ProcessWatch
from benchmarks.reporting import arguments, lacks_mnist, print_table, report
from cluster.local import configure_ray, local_ray

STEPS = ("train", "spectra", "evaluate", "recover")


@dataclass(frozen=True)
class Size:
    """Which sweep.

    Attributes:
        config: a bundled sweep file.
        changes: of it.
        alone: members that are trained again by themselves.
    """

    config: str
    changes: tuple[str, ...]
    alone: int


# the ratios count cores: members on a GPU would train beside cores that wait for it
ON_CORES = "resources.gpu=0"
SIZES = {
    "full": Size("mnist", (ON_CORES, "search.trials=32"), 2),
    "small": Size(
        "mnist", (ON_CORES, "search.trials=4", "training.epochs=2", "compression.finetune_epochs=1"), 0
    ),
    "tiny": Size(
        "digits", (ON_CORES, "search.trials=2", "training.epochs=1", "compression.finetune_epochs=0"), 0
    ),
}


class Marks:
    """A sweep's progress as times: what the runner says, and when."""

    def __init__(self) -> None:
        self.notes: list[tuple[float, str]] = []
        self.updates: list[float] = []

    def note(self, text: str) -> None:
        """Keep the time of a line."""
        self.notes.append((time.time(), text))

    def update(self, state: Any) -> None:
        """Keep the time of a state."""
        self.updates.append(time.time())

    def step(self, text: str, done: int, total: int) -> None:
        """Do nothing: the beginning of a step is a line."""

    def close(self) -> None:
        """Do nothing."""

    def at(self, beginning: str) -> float:
        """Return when a line with this beginning was said."""
        return next(moment for moment, text in self.notes if text.startswith(beginning))


class Stopwatch:
    """Adds up what calls of a method take, whoever makes them."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.calls: dict[str, int] = {}

    @contextmanager
    def watch(self, methods: Sequence[tuple[type, str]]) -> Iterator[None]:
        """Measure these methods of these classes while the block runs."""
        before = [(owner, name, getattr(owner, name)) for owner, name in methods]
        for owner, name, method in before:
            setattr(owner, name, self._timed(f"{owner.__name__}.{name}", method))
        try:
            yield
        finally:
            for owner, name, method in before:
                setattr(owner, name, method)

    def _timed(self, label: str, method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def call(*arguments: Any, **keywords: Any) -> Any:
            began = time.perf_counter()
            try:
                return method(*arguments, **keywords)
            finally:
                self.seconds[label] = self.seconds.get(label, 0.0) + time.perf_counter() - began
                self.calls[label] = self.calls.get(label, 0) + 1

        return call


def idle_seconds(ends: Sequence[float], work: Sequence[float], start: float, cores: int) -> dict[str, float]:
    """Say where cores did no member's work between the start of the packs and the last record.

    Args:
        ends: when each member was filed, Unix time.
        work: seconds that each took before.
        start: when the sweep began to run packs.
        cores: trials at a time.

    Returns:
        Core-seconds "before the first members", "after a core's last member" and "between members".
    """
    begins = sorted(end - spent for end, spent in zip(ends, work, strict=True))
    last = max(ends)
    before = sum(begin - start for begin in begins[:cores])
    after = sum(last - end for end in sorted(ends)[-cores:])
    return {
        "before the first members": before,
        "after a core's last member": after,
        "between members": cores * (last - start) - sum(work) - before - after,
    }


def run(size: Size, data_dir: Path | None, home: Path, began: float) -> dict[str, Any]:
    """Run the sweep and measure it.

    Args:
        size: which sweep.
        data_dir: where data sets lie.
        home: an empty directory for the sweep and MLflow's store.
        began: when this process started, Unix time.
    """
    configure_ray()
    os.environ["ARSVD_HOME"] = str(home)
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    clock = {"process and imports of the benchmark": time.time() - began}

    def lap(name: str) -> None:
        clock[name] = time.time() - began - sum(clock.values())

    from sweeps.config import load_config
    from sweeps.run.preparing import prepare

    config = load_config(size.config, size.changes)
    prepared = prepare(config, home, data_dir)
    lap("data and MLflow store, with their imports")

    from sweeps.run.runner import run_sweep
    from sweeps.run.session import Session
    from sweeps.search import PackSearcher, Study
    from sweeps.tracking import SweepWriter

    lap("other imports")
    marks, stopwatch = Marks(), Stopwatch()
    methods = [(Study, "ask"), (Study, "tell"), (PackSearcher, "suggest"), (Session, "members_filed")]
    methods += [(SweepWriter, name) for name in ("start", "member", "progress", "finish")]
    cores = len(os.sched_getaffinity(0))
    with ProcessWatch() as watch:
        with local_ray():
            lap("start of Ray")
            ready = time.time()
            with stopwatch.watch(methods):
                outcome = run_sweep(prepared, marks)
            end = time.time()
            clock["until the first pack is asked for"] = marks.at("sweep ") - ready
            clock["packs"] = marks.at("measuring") - marks.at("sweep ")
            clock["test and latency of the front, report"] = marks.at("logging") - marks.at("measuring")
            clock["export and registration of the front"] = end - marks.at("logging")
            processes = watch.look()
        clock["end of Ray"] = time.time() - end
    wall = time.time() - began
    records = outcome.ledger.members()
    seconds = {step: sum(r.seconds.get(step, 0.0) for r in records) for step in STEPS}
    work = [sum(record.seconds.values()) for record in records]
    ends = [(outcome.ledger.path / "members" / f"{r.key}.json").stat().st_mtime for r in records]
    training = seconds["train"]
    return {
        "cores": cores,
        "members": len(records),
        "failed": outcome.failed,
        "front": len(outcome.front.points),
        "hypervolume": outcome.front.hypervolume,
        "wall_seconds": wall,
        "ratios": {
            "training": wall * cores / training,
            "training_and_recovery": wall * cores / (training + seconds["recover"]),
            "work": wall * cores / sum(work),
        },
        "member_seconds": seconds,
        "phases": clock,
        "idle_core_seconds": idle_seconds(ends, work, marks.at("sweep "), cores),
        "driver_calls": {
            name: {"calls": stopwatch.calls[name], "seconds": stopwatch.seconds[name]}
            for name in sorted(stopwatch.seconds, key=lambda name: -stopwatch.seconds[name])
        },
        "processes": [vars(usage) for usage in sorted(processes.values(), key=lambda u: -u.peak_mb)],
        "alone": _alone(config, prepared.dataset, records[: size.alone]),
    }


def _alone(config: Any, dataset: Any, records: Sequence[Any]) -> dict[str, float] | None:
    """Train members again while nothing else runs: how much slower they were beside others."""
    if not records:
        return None
    import torch

    from sweeps.trial.packs import Task, run_members
    from sweeps.trial.workbench import Analysis, Workbench

    torch.set_num_threads(1)
    bench, analysis = Workbench(dataset, torch.device("cpu")), Analysis.from_config(config)
    again = [out for r in records for out, _ in run_members([Task(r.number, r.config)], bench, analysis)]
    return {
        step: statistics.fmean(
            r.seconds[step] / a.seconds[step] for r, a in zip(records, again, strict=True) if a.seconds[step]
        )
        for step in ("train", "evaluate")
    }


def main() -> None:
    """Run the benchmark."""
    began = _process_start()
    given = arguments(__doc__)
    size = SIZES[given.size]
    if size.config == "mnist" and lacks_mnist("overhead", given):
        return
    with tempfile.TemporaryDirectory(prefix="arsvd-overhead-") as home:
        found = run(size, given.data_dir, Path(home), began)
    wall, cores = found["wall_seconds"], found["cores"]
    print(f"{size.config}, {found['members']} members on {cores} cores, {wall:.0f} s\n")
    print_table(["wall x cores over", "ratio"], list(found["ratios"].items()))
    print_table(["of the members", "core-seconds"], list(found["member_seconds"].items()))
    print_table(["phase", "seconds", "%"], [[n, s, 100 * s / wall] for n, s in found["phases"].items()])
    print_table(["no member's work", "core-seconds"], list(found["idle_core_seconds"].items()))
    calls = [[name, v["calls"], v["seconds"]] for name, v in found["driver_calls"].items()]
    print_table(["driver's calls", "calls", "seconds"], calls)
    processes = [[p["name"], p["peak_mb"], p["cpu_seconds"]] for p in found["processes"][:10]]
    print_table(["process", "peak MB", "CPU s"], processes)
    summary = {
        **{f"over_{name}": round(value, 3) for name, value in found["ratios"].items()},
        "members": found["members"],
        "wall_seconds": round(wall, 1),
        "driver_peak_mb": round(next(p["peak_mb"] for p in found["processes"] if p["name"] == "driver")),
        "largest_peak_mb": round(found["processes"][0]["peak_mb"]),
    }
    extra = {"config": size.config, "changes": size.changes, "n": 1, "seeds": [0]}
    report("overhead", given.size, given.results, {**extra, **found}, summary)


def _process_start() -> float:
    """Return when this process started, Unix time: imports before `main` count as well."""
    ticks = int(Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
    up = float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
    return time.time() - up + ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
