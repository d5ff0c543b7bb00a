"""Whether two commits give the same sweeps, bit for bit: all curves, all points, the front and the best.

    PYTHONPATH=BEFORE python benchmarks/same_numbers.py --out before.json [--data-dir FOLDER]
    PYTHONPATH=AFTER  python benchmarks/same_numbers.py --out after.json  [--data-dir FOLDER]
    python benchmarks/same_numbers.py --compare before.json after.json

The package under test is the one that PYTHONPATH names. Only its command line is used, and the files that it
leaves, so that one script runs on both commits. Sweeps run on the CPU, one member at a time, since what is
asked next depends on what has ended. Keys and times are left out: the first may change with what a record
holds, the second differ from run to run. MNIST is run where --data-dir is given.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ALONE = ("resources.concurrent=1", "resources.pack=1", "resources.gpu=0", "search.seed=0")
SWEEPS = {
    "digits": ("search.trials=12", "training.epochs=6", "compression.finetune_epochs=2"),
    "mnist": (
        "search.trials=4",
        "training.epochs=2",
        "model.hidden={choice: [[64, 32], [32], [12]]}",
        "model.reference=[64, 32]",
        "compression.finetune_epochs=1",
        "compression.energy.points=12",
        "dataset.validation=2000",
        "dataset.confirmation=40000",  # so that 18,000 images are trained on
    ),
}
LEFT_OUT = {"key", "config", "seconds", "latency", "weights_sha256", "version"}
SHOWN, CHARACTERS = 10, 60  # differences that are printed, and of each value


def main() -> None:
    """Run the sweeps and write their numbers, or compare what two runs wrote."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, help="file that the numbers are written to")
    parser.add_argument("--data-dir", type=Path, help="where MNIST lies; without it only digits is run")
    parser.add_argument("--compare", type=Path, nargs=2, metavar=("A", "B"), help="files to compare")
    given = parser.parse_args()
    if given.compare:
        one, other = (json.loads(path.read_text()) for path in given.compare)
        sys.exit(compare(one, other))
    if given.out is None:
        parser.error("give --out FILE, or --compare A B")
    names = list(SWEEPS) if given.data_dir else ["digits"]
    found = {name: run(name, given.data_dir and given.data_dir.absolute()) for name in names}
    given.out.write_text(json.dumps(found, indent=1, sort_keys=True, allow_nan=False) + "\n")


def run(name: str, data_dir: Path | None) -> dict[str, Any]:
    """Run one sweep in an empty home; return its numbers."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("ARSVD_", "MLFLOW_", "RAY_"))}
        subprocess.run(
            [sys.executable, "-m", "sweeps.cli", "sweep", name, *ALONE, *SWEEPS[name], "--quiet"]
            + (["--data-dir", str(data_dir)] if data_dir else []),
            env={**environment, "ARSVD_HOME": str(home)},
            cwd=folder,  # a checkout there would come before PYTHONPATH
            stdout=subprocess.DEVNULL,
            check=True,
        )
        (sweep,) = (home / "sweeps").iterdir()
        members = [json.loads(path.read_text()) for path in (sweep / "members").glob("*.json")]
        front = json.loads((sweep / "front.json").read_text())
    front["best"] = None if front["best"] is None else front["points"][front["best"]]
    return {
        "members": [_numbers(member) for member in sorted(members, key=lambda member: member["number"])],
        "front": _numbers(front),
    }


def compare(one: object, other: object) -> int:
    """Print whether two runs are equal, or their first differences; return the exit status."""
    differences = list(_differences(one, other, ""))
    for line in differences[:SHOWN]:
        print(line)
    if differences:
        print(f"{len(differences)} numbers differ")
        return 1
    print(f"equal bit for bit: {_count(one)} values")
    return 0


def _numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _numbers(item) for name, item in value.items() if name not in LEFT_OUT}
    return [_numbers(item) for item in value] if isinstance(value, list) else value


def _differences(one: Any, other: Any, place: str) -> Iterator[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        for name in sorted(one.keys() | other.keys()):
            missing = "nothing"
            yield from _differences(one.get(name, missing), other.get(name, missing), f"{place}.{name}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, pair in enumerate(zip(one, other, strict=True)):
            yield from _differences(*pair, f"{place}[{index}]")
    elif isinstance(one, list) and isinstance(other, list):
        yield f"{place.lstrip('.')}: {len(one)} entries, {len(other)} entries"
    elif (type(one), repr(one)) != (type(other), repr(other)):  # repr: it tells 0.0 from -0.0
        yield f"{place.lstrip('.')}: {_short(one)}, {_short(other)}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= CHARACTERS else f"{text[:CHARACTERS]}…"


def _count(value: Any) -> int:
    if isinstance(value, dict | list):
        return sum(_count(item) for item in (value.values() if isinstance(value, dict) else value))
    return 1


if __name__ == "__main__":
    main()
