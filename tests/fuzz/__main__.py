"""Long runs by hand: `python -m tests.fuzz TARGET… --minutes 10`, or one kept input again: `--input FILE`."""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.contract import LIMIT_SECONDS, judge, targets

FAILURES = Path(".fuzz")
_STUCK_SECONDS = 4 * LIMIT_SECONDS  # past the alarm, which code outside Python does not hear


def main() -> int:
    """Run targets one after another; the status is 1 where one of them failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", help="which; all of them when none is named")
    parser.add_argument("--list", action="store_true", help="name the targets and end")
    parser.add_argument("--minutes", type=float, default=10.0, help="for each target")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the inputs")
    parser.add_argument("--failures", type=Path, default=FAILURES, help="folder for inputs that fail")
    parser.add_argument("--input", type=Path, help="read this file once, and show what happens")
    options = parser.parse_args()
    unknown = set(options.targets) - targets().keys()
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(targets())}")
    if options.list:
        print("\n".join(targets()))
        return 0
    if options.input is not None:
        return _again(options.targets, options.input)
    failed = [
        name
        for name in options.targets or targets()
        if not _supervised(name, 60 * options.minutes, options.seed, options.failures.absolute() / name)
    ]
    print(f"failed: {', '.join(failed)}" if failed else "nothing failed")
    return 1 if failed else 0


def _again(names: list[str], path: Path) -> int:
    (target,) = [targets()[name] for name in names]
    name = path.name.partition(".")[2].replace("~", "/") or target.seeds()[0].name
    with tempfile.TemporaryDirectory() as folder:
        verdict = judge(target, name, path.read_bytes(), Path(folder))
    print(verdict.fault or ("refused" if verdict.refused else "answered"), f"in {verdict.seconds:.2f} s")
    return 1 if verdict.fault else 0


def _supervised(name: str, seconds: float, seed: int, failures: Path) -> bool:
    """Run one target in processes of their own, begun anew where one dies; print its line."""
    end = time.monotonic() + seconds
    tallies, deaths = [], 0
    while (left := end - time.monotonic()) > 0:
        with tempfile.TemporaryDirectory(prefix="arsvd-fuzz-") as scratch:
            status = _watched(name, left, seed + deaths, Path(scratch), failures)
            report = Path(scratch) / "tally.json"
            tallies += [json.loads(report.read_text())] if report.exists() else []
            if status == 0:
                break
            deaths += 1
            current = Path(scratch) / "current"
            if not current.exists():
                print(f"{name}: it does not start (status {status})")
                return False
            failures.mkdir(parents=True, exist_ok=True)
            kind = (Path(scratch) / "current-name").read_text().replace("/", "~")
            shutil.copy(current, failures / f"death-{seed + deaths}.{kind}")
    faults: dict[str, int] = {}
    for tally in tallies:
        for kind, count in tally["faults"].items():
            faults[kind] = faults.get(kind, 0) + count
    inputs, spent = sum(t["inputs"] for t in tallies), sum(t["seconds"] for t in tallies)
    print(
        f"{name}: {inputs:,} inputs in {spent:.0f} s ({inputs / max(spent, 1e-9):.0f} a second), "
        f"{sum(t['refused'] for t in tallies):,} refused, {sum(t['kept'] for t in tallies)} kept as seeds, "
        f"worst {max((t['slowest'] for t in tallies), default=0):.2f} s and "
        f"{max((t['most_bytes'] for t in tallies), default=0) / 2**20:.0f} MiB, "
        f"{len(faults)} faults, {deaths} deaths" + "".join(f"\n    {k}: {n}" for k, n in faults.items()),
        flush=True,
    )
    return not faults and not deaths


def _watched(name: str, seconds: float, seed: int, scratch: Path, failures: Path) -> int:
    """Start a child and wait; kill it where it is stuck with one input. Returns its status."""
    command = [sys.executable, "-m", "tests.fuzz.child", name, f"{seconds:.1f}", str(seed)]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    with subprocess.Popen([*command, str(scratch), str(failures)], env=environment) as child:
        current = scratch / "current"
        while child.poll() is None:
            time.sleep(0.2)
            if current.exists() and time.time() - current.stat().st_mtime > _STUCK_SECONDS:
                child.kill()
        return int(child.returncode)


if __name__ == "__main__":
    sys.exit(main())
