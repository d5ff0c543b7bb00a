"""What the driver sustains on a big cluster: 100 nodes that train nothing, up to 10,000 members.

Measured with the sweep's own parts, at studies of growing size: what Optuna takes to ask and to be told, what
a member costs the driver when it is filed (its record read, the front brought up to date), how much memory
that takes, how fast MLflow is written, and how many trials a second Ray Tune itself starts and ends. A
discrete-event simulation with these times then runs the cluster: nodes are busy for drawn durations, and wait
for the one driver. Shorter members ask for more of it, until it saturates.

Tune's time is measured at few trials at a time, on this machine's cores, and used for 100 nodes: it is
extrapolated. MLflow is written by a thread of its own and is no part of what nodes wait for.
"""

import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import NSGAIISampler
from optuna.trial import TrialState, create_trial

from arsvd.data import load
from benchmarks.processes import resident_mb
from benchmarks.reporting import arguments, print_table, report
from benchmarks.scale_records import REFERENCE, made_up_record
from benchmarks.scale_simulation import NODES, interpolated, simulate
from cluster.local import configure_ray, local_ray
from sweeps.config import SweepConfig, load_config

# of a member on a node: MNIST on one core, and what saturates the driver
DURATIONS = (30.0, 10.0, 3.0)


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        members: sizes of studies at which times are taken.
        asks: asked and told at each.
        samplers: compared.
        filed: members filed at each size with `Session`.
        tune_trials: trials of the real Tune run.
        mlflow: members written to a real MLflow store.
    """

    members: tuple[int, ...]
    asks: int
    samplers: tuple[str, ...]
    filed: int
    tune_trials: int
    mlflow: int


SIZES = {
    "full": Size((100, 1_000, 10_000), 5, ("tpe", "nsga2", "random"), 3, 400, 100),
    "small": Size((100, 1_000), 3, ("tpe", "random"), 2, 60, 20),
    "tiny": Size((5, 10), 1, ("random",), 1, 0, 2),
}


def measure_asks(config: SweepConfig, folder: Path, size: Size, data_hash: str) -> list[dict[str, Any]]:
    """Time asks and tells at each size, with all nodes' members running."""
    from sweeps.ledger.asked import write_asked
    from sweeps.ledger.ledger import Ledger
    from sweeps.search import Study
    from sweeps.search.journal import Journal

    rows = []
    for sampler in size.samplers:
        for members in size.members:
            wanted = config.replaced({"search.sampler": sampler, "search.trials": members + NODES})
            path = folder / f"{sampler}-{members}"
            kept = Study(wanted, data_hash, keep=partial(write_asked, Ledger(path)))
            for storage, study in (("memory", Study(wanted, data_hash)), ("ledger", kept)):
                parents_seconds = fill(study, members)
                if study is kept:
                    path.mkdir()
                    study.show_in(partial(Journal, path / "study.journal", sampler, note=print))
                rows.append(
                    {"sampler": sampler, "storage": storage, "members": members}
                    | {"parents_seconds": parents_seconds}
                    | _ask_and_tell(study, size.asks, data_hash)
                )
    return rows


def _ask_and_tell(study: Any, times: int, data_hash: str) -> dict[str, float]:
    asked = [_timed(study.ask) for _ in range(times)]
    records = [made_up_record(number, member, data_hash) for _, (number, member) in asked]
    told = [_timed(partial(study.tell, record))[0] for record in records]
    return {
        "ask_seconds": statistics.median(seconds for seconds, _ in asked),
        "tell_seconds": statistics.median(told),
    }


def fill(study: Any, members: int) -> float:
    """Add finished trials and one that runs on each node, as a sweep that has come this far would have.

    NSGA-II breeds from trials that it knows the generation of, so each gets one, and the parents of each
    generation are selected, as the sweep would have done on its way.

    Returns:
        Seconds a member that NSGA-II takes to select the last generation's parents, once a generation and
        missed by the median of a few asks; 0 for other samplers.
    """
    inner: optuna.Study = study._study
    space = study._space.distributions
    sampler = optuna.samplers.RandomSampler(seed=0)
    source = optuna.create_study(sampler=sampler, directions=["maximize", "minimize"])
    chooser = random.Random(0)
    drawn = [source.ask(space).params for _ in range(members + min(NODES, members))]
    genetic = inner.sampler if isinstance(inner.sampler, NSGAIISampler) else None
    population = members if genetic is None else genetic.population_size
    last = members // population

    def generation(number: int) -> dict[str, Any]:
        if genetic is None:
            return {}
        return {genetic._get_generation_key(): min(last, number // population)}

    trials = [
        create_trial(
            params=params,
            distributions=space,
            values=[chooser.uniform(0.9, 0.99), float(int(chooser.lognormvariate(10.8, 1.0)))],
            system_attrs=generation(number),
        )
        for number, params in enumerate(drawn[:members])
    ]
    trials += [
        create_trial(
            state=TrialState.RUNNING, params=params, distributions=space, system_attrs=generation(members)
        )
        for params in drawn[members:]
    ]
    inner.add_trials(trials)
    if genetic is None:
        return 0.0
    # in order: each selection reads the one before it from the study
    selected = [
        _timed(partial(genetic.get_parent_population, inner, number))[0] for number in range(1, last + 1)
    ]
    return selected[-1] / population if selected else 0.0


def measure_filing(config: SweepConfig, home: Path, size: Size) -> list[dict[str, Any]]:
    """Time what a filed member costs the driver, and measure its memory, at each size."""
    from sweeps.ledger.ledger import Ledger
    from sweeps.run.progress import Quiet
    from sweeps.run.session import Session

    dataset = load("digits", validation=0.2)
    ledger = Ledger.create(home, config, dataset, REFERENCE)
    member = _members(config)
    # as text and back, so that equal values are objects of their own, as in records that were read
    texts = [
        json.dumps(made_up_record(number, member(number), dataset.hash).to_dict()) for number in range(50)
    ]
    rows = []
    known = 0
    before = resident_mb()
    session = Session(ledger, max(size.members), 0.005, _Silent(), _Silent(), Quiet())  # type: ignore[arg-type]
    for members in size.members:
        session.begin([_read(texts, member, number, dataset.hash) for number in range(known, members)])
        memory = resident_mb() - before
        seconds = []
        for number in range(members, members + size.filed):
            record = made_up_record(number, member(number), dataset.hash)
            ledger.write_member(record)
            seconds.append(_timed(partial(session.members_filed, [record.key], "trial"))[0])
        known = members + size.filed
        rows.append(
            {
                "members": members,
                "filed_seconds": statistics.median(seconds),
                "memory_mb": memory,
                "record_kb": len(texts[0]) / 1e3,
            }
        )
    return rows


def _read(texts: Sequence[str], member: Callable[[int], Any], number: int, data_hash: str) -> Any:
    from sweeps.ledger.records import MemberRecord

    record = MemberRecord.from_dict(json.loads(texts[number % len(texts)]))
    config = member(number)
    return replace(record, number=number, config=config, key=config.key(data_hash))


def _members(config: SweepConfig) -> Callable[[int], Any]:
    from sweeps.config import Space, member_seed

    space = Space.from_config(config)
    sampler = optuna.samplers.RandomSampler(seed=0)
    params = optuna.create_study(sampler=sampler).ask(space.distributions).params
    return lambda number: space.resolve(params, member_seed(0, number))


class _Silent:
    """Takes the calls of MLflow's writer and of its thread, and does nothing: they are measured apart."""

    away = None
    queued = 0

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments, **keywords: None


def measure_mlflow(config: SweepConfig, home: Path, members: int) -> dict[str, float]:
    """Time what a member's run costs MLflow's writer, on the embedded store."""
    from sweeps.tracking import SweepWriter, connect

    client = connect(f"sqlite:///{home / 'mlflow.db'}")
    writer = SweepWriter(client)
    writer.start(sweep="scale", dataset="scale", data_hash="5ca1e" * 12, params={})
    member = _members(config)
    seconds = []
    for number in range(members):
        record = made_up_record(number, member(number), "5ca1e" * 12)
        progress = partial(writer.progress, members=number, points=380 * number, hypervolume=0.9, best=None)
        seconds.append(_timed(partial(writer.member, record))[0] + _timed(progress)[0])
    writer.finish("FINISHED")
    return {"members": members, "member_seconds": statistics.median(seconds)}


def measure_tune(config: SweepConfig, folder: Path, trials: int) -> list[dict[str, Any]]:
    """Let Ray Tune run trials that do nothing, with the sweep's settings, and time them."""
    from ray import tune

    from benchmarks.scale_trainable import NothingTrainable

    class Ends(tune.Callback):
        def __init__(self) -> None:
            self.times: list[float] = []

        def on_trial_result(self, **_: Any) -> None:
            self.times.append(time.perf_counter())

        def __deepcopy__(self, memo: dict[int, Any]) -> "Ends":
            return self

    rows = []
    with local_ray():
        for concurrent in (2, 8):
            ends = Ends()
            tune.Tuner(
                tune.with_resources(NothingTrainable, {"cpu": len(os.sched_getaffinity(0)) / concurrent}),
                param_space={"members": tune.grid_search(list(range(trials)))},
                tune_config=tune.TuneConfig(reuse_actors=True, max_concurrent_trials=concurrent),
                run_config=tune.RunConfig(
                    name="scale",
                    storage_path=str(folder / f"tune-{concurrent}"),
                    callbacks=[ends],
                    checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
                    verbose=0,
                ),
            ).fit()
            quarter = max(1, trials // 4)
            rates = [
                quarter / (ends.times[start + quarter] - ends.times[start])
                for start in (quarter, len(ends.times) - quarter - 1)
            ]
            rows.append(
                {"concurrent": concurrent, "trials": trials, "early_rate": rates[0], "late_rate": rates[1]}
            )
    return rows


def _timed(call: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = call()
    return time.perf_counter() - began, result


def scenarios(
    asks: Sequence[dict[str, Any]], filing: Sequence[dict[str, Any]], tune_seconds: float, members: int
) -> list[dict[str, Any]]:
    """Simulate the cluster with each sampler and each mean duration of a member.

    Returns:
        A row each: what `simulate` returns, beside the members a second that the nodes demand and those at
        which the driver saturates, which is one over its seconds a member at the study's full size.
    """
    filed = interpolated({row["members"]: row["filed_seconds"] for row in filing})
    rows = []
    for sampler in dict.fromkeys(row["sampler"] for row in asks):
        own = [row for row in asks if row["sampler"] == sampler and row["storage"] == "ledger"]
        asking = interpolated(
            {r["members"]: r["ask_seconds"] + r["tell_seconds"] + r["parents_seconds"] for r in own}
        )
        service = _sum(asking, filed, lambda _: tune_seconds)
        for mean_seconds in DURATIONS:
            found = simulate(service, members, mean_seconds=mean_seconds)
            setting = {"sampler": sampler, "mean_seconds": mean_seconds, "demand": NODES / mean_seconds}
            rows.append({**setting, **found, "saturation_rate": 1 / service(members)})
    return rows


def tune_term(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Say which of Tune's times stands for the cluster: the longest measured, taken for all of its nodes."""
    if not rows:
        return {"seconds": 0.0, "measured_concurrent": None, "used_concurrent": NODES, "how": "not measured"}
    slowest = min(rows, key=lambda row: row["late_rate"])
    concurrent = slowest["concurrent"]
    how = f"extrapolated: measured at {concurrent} trials at a time on this machine, used for {NODES} nodes"
    seconds = 1 / slowest["late_rate"]
    return {"seconds": seconds, "measured_concurrent": concurrent, "used_concurrent": NODES, "how": how}


def _sum(*terms: Callable[[int], float]) -> Callable[[int], float]:
    return lambda at: sum(term(at) for term in terms)


def main() -> None:
    """Run the benchmark."""
    configure_ray()
    given = arguments(__doc__)
    size = SIZES[given.size]
    config = load_config("mnist")
    with tempfile.TemporaryDirectory(prefix="arsvd-scale-") as name:
        folder = Path(name)
        asks = measure_asks(config, folder, size, "5ca1e" * 12)
        filing = measure_filing(config, folder / "home", size)
        mlflow = measure_mlflow(config, folder, size.mlflow)
        tune_rows = measure_tune(config, folder, size.tune_trials) if size.tune_trials else []
    term = tune_term(tune_rows)
    simulated = scenarios(asks, filing, term["seconds"], max(size.members))
    for rows in (asks, filing, tune_rows, simulated):
        if rows:
            print_table(list(rows[0]), [list(row.values()) for row in rows])
    print(f"Tune's {1e3 * term['seconds']:.1f} ms a trial in the simulation: {term['how']}")
    print(f"MLflow: {mlflow['member_seconds']:.3f} s a member, {1 / mlflow['member_seconds']:.1f} a second\n")
    largest = max(size.members)
    summary = {
        "ask_ms": {
            f"{row['sampler']}, {row['storage']}, {row['members']}": round(1e3 * row["ask_seconds"], 1)
            for row in asks
        },
        "filed_ms": {str(row["members"]): round(1e3 * row["filed_seconds"], 1) for row in filing},
        "driver_mb": {str(row["members"]): round(row["memory_mb"]) for row in filing},
        "mlflow_members_per_second": round(1 / mlflow["member_seconds"], 1),
        "tune_trials_per_second": None if not tune_rows else round(1 / term["seconds"], 1),
        "tune_term": term["how"],
        f"members_per_second_to_{largest}": {
            f"{row['sampler']}, members of {row['mean_seconds']:g} s": round(row["rate"], 2)
            for row in simulated
        },
        "nodes_demand": {f"{mean:g} s": round(NODES / mean, 2) for mean in DURATIONS},
        f"driver_saturates_at_{largest}": {
            row["sampler"]: round(row["saturation_rate"], 2) for row in simulated
        },
    }
    found = {"asks": asks, "filing": filing, "mlflow": mlflow, "tune": tune_rows}
    found |= {"tune_term": term, "simulation": simulated}
    setting = {"nodes": NODES, "mean_seconds": DURATIONS, "n": size.asks, "seeds": [0]}
    report("scale", given.size, given.results, {**setting, **found}, summary)


if __name__ == "__main__":
    main()
