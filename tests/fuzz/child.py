"""One target read again and again, in a process of its own that `python -m tests.fuzz` starts.

Inputs that are refused in a new way are kept as seeds of further ones: a cheap stand-in for coverage.
"""

import gc
import json
import logging
import os
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.fuzz.contract import LIMIT_SECONDS, Seed, Target, Verdict, judge, targets
from tests.fuzz.guard import Guard

LIMIT_BYTES = 2 * 2**30
_WARM_UP = 30
_MOST_KEPT = 500
_MOST_INPUT = 2**22  # bytes: changes of changes grow without end
_TOLD = 200  # inputs between two reports


@dataclass
class Tally:
    """What a run has come to so far."""

    inputs: int = 0
    refused: int = 0
    slowest: float = 0.0
    most_bytes: int = 0
    kept: int = 0
    seconds: float = 0.0
    faults: dict[str, int] = field(default_factory=dict)


def run(target: Target, seconds: float, seed: int, scratch: Path, failures: Path) -> None:
    """Read inputs until the time is over; write reports and failing inputs.

    Args:
        target: the reader.
        seconds: how long.
        seed: of the inputs: equal seeds make equal inputs.
        scratch: a folder for files on the way; `current` in it is the input that is being read.
        failures: a folder for the inputs that fail.
    """
    random = Random(seed)
    seeds = list(target.seeds())
    queue = _inputs(target, random, seeds)
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        for number in range(_WARM_UP):
            place = Path(folder) / str(number)
            place.mkdir()
            # every seed once, then changed ones: what is imported late is imported now
            name, data = (seeds[number].name, seeds[number].data) if number < len(seeds) else next(queue)
            judge(target, name, data, place)
    gc.collect()
    _limit_address_space()
    guard = Guard((scratch, Path(tempfile.gettempdir())), target.generates)
    tally, seen = Tally(), set[str]()
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        name, data = next(queue)
        (scratch / "current").write_bytes(data)
        (scratch / "current-name").write_text(name)
        before = _reset_peak()
        with tempfile.TemporaryDirectory(dir=scratch) as folder, guard.watching():
            verdict = judge(target, name, data, Path(folder))
        took = max(0, _peak() - before)
        _count(tally, verdict, took)
        fault = _fault(verdict, guard, took)
        if fault is not None:
            _keep_failure(failures, verdict.signature, name, data, fault, tally)
        elif verdict.seconds > LIMIT_SECONDS / 2:
            _keep_failure(
                failures, f"slow-{tally.inputs}", name, data, f"took {verdict.seconds:.1f} s", Tally()
            )
        elif verdict.signature not in seen and len(seeds) < _MOST_KEPT:
            seen.add(verdict.signature)
            seeds.append(Seed(name, data))
            tally.kept += 1
        tally.seconds = time.monotonic() - began
        if tally.inputs % _TOLD == 0:
            (scratch / "tally.json").write_text(json.dumps(vars(tally)))
    (scratch / "tally.json").write_text(json.dumps(vars(tally)))


def _inputs(target: Target, random: Random, seeds: list[Seed]) -> Iterator[tuple[str, bytes]]:
    whole = len(seeds)
    while True:
        seed = random.choice(seeds[:whole] if random.random() < 0.5 else seeds)
        data = seed.data
        for _ in range(random.choice((1, 1, 1, 2, 3))):
            if len(data) < _MOST_INPUT:
                data = target.mutate(random, data, [other.data for other in seeds[:whole]])
        if len(data) < _MOST_INPUT:
            yield seed.name, data


def _count(tally: Tally, verdict: Verdict, took: int) -> None:
    tally.inputs += 1
    tally.refused += verdict.refused
    tally.slowest = max(tally.slowest, verdict.seconds)
    tally.most_bytes = max(tally.most_bytes, took)


def _fault(verdict: Verdict, guard: Guard, took: int) -> str | None:
    parts = [verdict.fault] if verdict.fault else []
    if took > LIMIT_BYTES:
        parts.append(f"took {took / 2**30:.1f} GiB")
    parts += [f"it did what no reader may: {said}" for said in guard.found[:5]]
    return "\n".join(parts) or None


def _keep_failure(failures: Path, signature: str, name: str, data: bytes, fault: str, tally: Tally) -> None:
    kind = f"{signature}-{'-'.join(fault.splitlines()[-1].split()[:1])[:40]}".replace("/", "-").rstrip(":")
    tally.faults[kind] = tally.faults.get(kind, 0) + 1
    if tally.faults[kind] == 1:
        failures.mkdir(parents=True, exist_ok=True)
        (failures / f"{signature}.{name.replace('/', '~')}").write_bytes(data)
        (failures / f"{signature}.txt").write_text(fault, errors="backslashreplace")


def _limit_address_space() -> None:
    """Refuse what is past the limit, so that a claim of terabytes is an error and no dead machine."""
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + LIMIT_BYTES, taken + LIMIT_BYTES))


def _reset_peak() -> int:
    """Begin a new peak of resident memory, and return what is taken now."""
    Path("/proc/self/clear_refs").write_text("5")
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _peak() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    _name, _seconds, _seed, _scratch, _failures = sys.argv[1:]
    run(targets()[_name], float(_seconds), int(_seed), Path(_scratch), Path(_failures))
    os._exit(0)  # what libraries do at the end of a process needs memory that the limit may refuse
