"""Every file of a sweep's folder, read as `list`, `show`, `resume` and `sync` read it."""

import contextlib
import io
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from functools import cache, partial
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import safetensors.torch
import torch
from rich.console import Console

import arsvd
from arsvd import OperatingPoint
from arsvd.evaluation.latency import Latency
from arsvd.training import MemberState, StateError
from arsvd.training.state import _digest as state_digest
from sweeps.cli.errors import _STATUSES
from sweeps.config import ConfigError, config_to_params, load_config
from sweeps.ledger.best_so_far import BestSoFar
from sweeps.ledger.joined_front import GrowingFront, sweep_front
from sweeps.ledger.ledger import BEST_SO_FAR, FRONT, JOURNAL, PROVENANCE, Ledger, LedgerError
from sweeps.ledger.lock import LOCK, LockedError, Owner, hold, read_owner
from sweeps.ledger.records import FINISHED, FrontPoint, MemberRecord, TestMetrics
from sweeps.ledger.standing import find_damage, standing_front
from sweeps.ledger.storage import StorageError
from sweeps.report.console import outcome_json, print_front, print_sweeps, sweep_rows
from sweeps.run.mending import most_numbers, whole_members
from sweeps.run.preparing import ResumeError
from sweeps.run.resuming import refuse_changes
from sweeps.run.syncing import _readable
from sweeps.search.opening import open_study
from sweeps.search.study import StudyError
from sweeps.tracking.entities import front_values, member_metrics, member_params, progress_values
from sweeps.tracking.publishing import _provenance
from sweeps.trial.checkpoint import Checkpoints
from sweeps.trial.weights import MemberWeights, load_member, save_member
from tests.fuzz.contract import Mutator, Seed, Target
from tests.fuzz.mutation.containers import mutate_safetensors
from tests.fuzz.mutation.json_text import mutate_json
from tests.fuzz.mutation.raw import mutate_bytes
from tests.fuzz.mutation.yaml_text import mutate_yaml

# what the command line turns into a message; of anything else it shows the traceback
REFUSALS = (LedgerError, ConfigError, StorageError, StudyError, LockedError, ResumeError)
assert {kind.__name__ for kind in REFUSALS} <= _STATUSES.keys()
_HASH = "5eed" * 16
_REFERENCE = (963, 900)
_MEMBERS = 3
_PAST_ANY_PID = 2**22
_CHECKPOINT = ".checkpoint.safetensors"
_OLD = Path(__file__).parents[2] / "data" / "release-0.1.0" / "sweeps" / "digits-20261126-023154-8605"


@cache
def _files() -> dict[str, bytes]:
    """Write a sweep with the product's own writers: two members filed, one in training, a front."""
    with tempfile.TemporaryDirectory() as home:
        config = load_config(
            "mnist",
            (
                "search.trials=3",
                "search.sampler=random",
                "model.hidden={choice: [[12, 8], [12, 9]]}",
                "training.lr={loguniform: [0.001, 0.01]}",
                "compression.energy={range: [0.3, 0.999], points: 3}",
            ),
        )
        dataset: Any = SimpleNamespace(name="mnist", hash=_HASH, validation=range(100))
        ledger = Ledger.create(Path(home), config, dataset, _REFERENCE)
        study = open_study(ledger, config, _HASH, [], _MEMBERS, print)
        records = []
        for _ in range(_MEMBERS - 1):
            number, member = study.ask()
            record = _record(ledger, number, member)
            ledger.write_member(record)
            study.tell(record)
            records.append(record)
        _, training = study.ask()
        ledger.write_checkpoint(training.key(_HASH), _state().to_bytes())
        front = sweep_front(records, _REFERENCE, 0.01, 100)
        points = tuple(_finished(entry) for entry in front.points)
        best = None if front.best is None else points[front.points.index(front.best)]
        front = replace(front, points=points, best=best, confidence=0.95)
        best_so_far = BestSoFar()
        for record in records:
            best_so_far.add(record)
        ledger.write_front(front)
        best_so_far.write(ledger.storage)
        gone = replace(Owner.this_process(), pid=_PAST_ANY_PID, started="1")
        ledger.storage.write(LOCK, json.dumps(asdict(gone)).encode())
        ledger.storage.write(PROVENANCE, json.dumps({"arsvd.version": "0.1.0", "host": "a"}).encode())
        inside = [path for path in sorted(ledger.path.rglob("*")) if path.is_file()]
        return {str(path.relative_to(ledger.path)): path.read_bytes() for path in inside}


def _record(ledger: Ledger, number: int, member: Any) -> MemberRecord:
    torch.manual_seed(number)
    dense = arsvd.MLP([6, *member.hidden, 3]).eval()
    spectra = {"weight": arsvd.spectra(dense)}
    key = member.key(_HASH)
    sha256 = ledger.write_weights(key, partial(save_member, weights=MemberWeights(dense, spectra, {})))
    points = tuple(
        OperatingPoint(
            (2, 2, None), 100 * step, 90 * step, 0.9 + step / 100, 0.9, 0.3, "energy", "weight", 0.5
        )
        for step in (1, 2, 3)
    )
    return MemberRecord(
        key=key,
        number=number,
        status=FINISHED,
        cause=None,
        config=member,
        curves={"train_loss": [1.0, 0.5], "validation_accuracy": [0.8, 0.9]},
        dense=OperatingPoint((None,) * 3, 900, 850, 0.95, 0.95, 0.2, "dense", None, None),
        asked=points[1],
        points=points,
        baselines={"fixed": points[:1], "weight energy": points[1:2]},
        seconds={"train": 1.5},
        weights_sha256=sha256,
    )


def _finished(entry: FrontPoint) -> FrontPoint:
    latency = Latency(256, 1, "cpu", 20, 80.0, 90.0, 160.0, 170.0)
    return FrontPoint(
        entry.key, entry.number, entry.point, TestMetrics(0.9, 0.9, 0.3), entry.point.accuracy, (latency,)
    )


def _state() -> MemberState:
    return MemberState(
        settings={"epochs": 2, "hyperparameters": {"lr": 0.01}},
        steps=7,
        curves={"train_loss": [1.0]},
        failure=None,
        seconds=1.25,
        tensors={"losses": torch.tensor(0.5), "parameter.0": torch.ones(2, 3), "draws.x": torch.zeros(3)},
    )


def _of(*endings: str) -> tuple[Seed, ...]:
    found = tuple(Seed(name, data) for name, data in _files().items() if name.endswith(endings))
    assert found
    return found


def _records() -> tuple[Seed, ...]:
    return tuple(seed for seed in _of(".json") if seed.name.startswith("members/"))


def _weights() -> tuple[Seed, ...]:
    return tuple(seed for seed in _of(".safetensors") if not seed.name.endswith(_CHECKPOINT))


def _place(folder: Path, name: str) -> Path:
    sweep = folder / "sweeps" / "mnist-1"
    for file, data in _files().items():
        (sweep / file).parent.mkdir(parents=True, exist_ok=True)
        (sweep / file).write_bytes(data)
    if name.startswith("members/"):
        (sweep / FRONT).unlink()  # a sweep that has not ended shows what its members come to
    return sweep / name


def _place_old(folder: Path, name: str) -> Path:
    """Lay out a sweep of release 0.1.0, whose journal is read once."""
    sweep = folder / "sweeps" / _OLD.name
    shutil.copytree(_OLD, sweep)
    return sweep / name


def _use(path: Path) -> None:
    """Run what the commands read; whatever one of them refuses, the others are run."""
    sweep = next(parent for parent in path.parents if parent.parent.name == "sweeps")
    home = sweep.parents[1]
    _list(home)  # one bad sweep must not take the others with it
    refused: Exception | None = None
    for command in (_show, _best_so_far, _owner, _sync, _checkpoints, _resume):
        try:
            command(Ledger.at(home, sweep.name))
        except REFUSALS as error:
            str(error).encode()
            refused = error
    if refused is not None:
        raise refused


def _console() -> Console:
    # strict, as a terminal's is
    return Console(file=io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), width=120)


def _list(home: Path) -> None:
    rows = sweep_rows(home)
    json.dumps(rows, allow_nan=False)
    print_sweeps(_console(), rows, home)


def _show(ledger: Ledger) -> None:
    front, final = standing_front(ledger)
    json.dumps(outcome_json(ledger.facts, front), allow_nan=False)
    print_front(_console(), ledger.facts, front, final)
    for damage in find_damage(ledger):
        str(damage).encode()


def _best_so_far(ledger: Ledger) -> None:
    BestSoFar.read(ledger.storage).accuracy(1000)


def _owner(ledger: Ledger) -> None:
    owner = read_owner(ledger)
    if owner is not None:
        _ = owner.alive, str(owner).encode()
    with hold(ledger, force=True):
        pass


def _sync(ledger: Ledger) -> None:
    config, front = ledger.config, ledger.front()
    config_to_params(config)
    _provenance(ledger, running=False)
    records, _ = _readable(ledger)
    facts = ledger.facts
    datetime.fromisoformat(facts.began).timestamp()
    growing = GrowingFront(facts.reference, config.select.max_drop, facts.validation_images)
    for record in records:
        member_metrics(record, facts.reference[0], 0)
        member_params(record)
        growing.add(record)
        grown = growing.front()
        progress_values(1, len(record.points), grown.hypervolume, grown.best, facts.reference[0])
        if record.status == FINISHED and record.weights_sha256:
            with ledger.read_weights(record.key, record.weights_sha256) as path:
                weights = load_member(path)
            for point in record.points:
                with contextlib.suppress(ValueError):
                    weights.build(point)
    if front is not None:
        front_values(front, facts.reference[0])


def _build(path: Path) -> None:
    weights = load_member(path)
    weights.dense(torch.zeros(2, weights.dense.linear1.in_features))
    for basis, spectra in weights.spectra.items():
        ranks = tuple(2 if spectrum.worthwhile(2) else None for spectrum in spectra)
        weights.build(OperatingPoint(ranks, 1, 1, 0.5, 0.5, 0.5, "energy", basis, 0.5))


def _checkpoints(ledger: Ledger) -> None:
    for path in sorted((ledger.path / "members").glob(f"*{_CHECKPOINT}")):
        Checkpoints(ledger, 60.0).read(path.name.removesuffix(_CHECKPOINT))


def _resume(ledger: Ledger) -> None:
    config = ledger.changed_config(("search.trials=4",))
    refuse_changes(ledger.begun_config, config)
    said: list[str] = []
    records = whole_members(ledger, said.append)
    open_study(ledger, config, ledger.facts.data_hash, records, most_numbers(ledger), said.append)
    "".join(said).encode()


def _mutate_journal(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Change one line, as JSON, or the lines' order."""
    lines = data.splitlines(keepends=True)
    kind = random.random()
    if kind < 0.2 or not lines:
        return mutate_bytes(random, data, others)
    place = random.randrange(len(lines))
    if kind < 0.8:
        lines[place] = mutate_json(random, lines[place], ()).replace(b"\n", b" ") + b"\n"
    elif kind < 0.9:
        lines.insert(random.randrange(len(lines)), lines[place])
    else:
        del lines[place]
    return b"".join(lines)


def _mutate_state(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Change a training state, and now and then set its checksum right again, as a forger would."""
    changed = mutate_safetensors(random, data, others)
    if random.random() < 0.3:
        return changed
    try:
        tensors = safetensors.torch.load(changed)
        length = int.from_bytes(changed[:8], "little")
        header = json.loads(changed[8 : 8 + length])
        header["__metadata__"]["sha256"] = state_digest(header["__metadata__"]["arsvd training"], tensors)
    except Exception:  # past mending
        return changed
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + changed[8 + length :]


def _target(name: str, seeds: Callable[[], tuple[Seed, ...]], mutate: Mutator = mutate_json) -> Target:
    return Target(
        name=f"sweep-{name}",
        seeds=seeds,
        place=_place,
        read=_use,
        refusals=REFUSALS,
        mutate=mutate,
        examples=6,
    )


TARGETS = (
    _target("facts", lambda: _of("sweep.json")),
    _target("config", lambda: _of("sweep.yaml", "begun.yaml"), mutate_yaml),
    _target("members", _records),
    _target("front", lambda: _of(FRONT)),
    _target("best-so-far", lambda: _of(BEST_SO_FAR)),
    _target("lock", lambda: _of(LOCK)),
    _target("provenance", lambda: _of(PROVENANCE)),
    _target("asked", lambda: tuple(seed for seed in _of(".json") if seed.name.startswith("asked/"))),
    Target(
        name="sweep-journal",
        seeds=lambda: (Seed(JOURNAL, (_OLD / JOURNAL).read_bytes()),),
        place=_place_old,
        read=lambda path: _resume(Ledger(path.parent)),
        refusals=REFUSALS,
        mutate=_mutate_journal,
        examples=6,
        special=False,
    ),
    _target("checkpoint", lambda: _of(_CHECKPOINT), mutate_safetensors),
    _target("weights", _weights, mutate_safetensors),
    Target(
        name="training-state",
        seeds=lambda: _of(_CHECKPOINT),
        place=lambda folder, name: folder / Path(name).name,
        read=lambda path: MemberState.from_bytes(path.read_bytes()),
        refusals=(StateError,),
        mutate=_mutate_state,
        special=False,
    ),
    # behind the checksum in the member's record, which a forger writes as well
    Target(
        name="member-weights",
        seeds=_weights,
        place=lambda folder, name: folder / Path(name).name,
        read=_build,
        refusals=(ValueError, FileNotFoundError),
        mutate=mutate_safetensors,
    ),
)
