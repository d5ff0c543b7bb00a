"""What every benchmark shares: its arguments, and the JSON file and last line that it ends with."""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.environment import environment

SIZES = ("full", "small", "tiny")


def arguments(description: str | None) -> argparse.Namespace:
    """Read `--small`, `--tiny`, `--results` and `--data-dir`; `make bench` gives all benchmarks the same.

    Args:
        description: the benchmark's docstring.

    Returns:
        Attributes `size` ("full", "small", "tiny"), `results` and `data_dir`, which is None where not given.
    """
    parser = argparse.ArgumentParser(description=(description or "").split("\n\n")[0])
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--small", dest="size", action="store_const", const="small", help="about a minute, for `make bench`"
    )
    size.add_argument(
        "--tiny", dest="size", action="store_const", const="tiny", help="seconds, for the tests"
    )
    parser.set_defaults(size="full")
    parser.add_argument(
        "--data-dir",
        type=Path,
        help="where data sets lie, see arsvd.data.data_root; unused where none is read",
    )
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    return parser.parse_args()


def lacks_mnist(name: str, given: argparse.Namespace) -> bool:
    """Say in the last line that a small run is left out because MNIST is not there.

    A full run goes on, and stops with the error of whatever reads the images.

    Args:
        name: the benchmark's.
        given: what `arguments` returned.
    """
    # here, not above: gpu and inference need torch alone, and few benchmarks read MNIST
    from arsvd.data import data_root
    from arsvd.data.roots import fetch_command
    from arsvd.data.sources.mnist import folder

    root = data_root(given.data_dir)
    if given.size == "full" or folder(root).is_dir():
        return False
    reason = f"MNIST is not in {root}: {fetch_command('mnist', root)} fetches it, or name its --data-dir"
    print(json.dumps({"benchmark": name, "size": given.size, "skipped": reason}), flush=True)
    return True


def report(name: str, size: str, results: Path, found: Mapping[str, Any], summary: Mapping[str, Any]) -> None:
    """Write a benchmark's JSON file with hardware and versions, and print its last line.

    Runs at full size write `NAME.json`, the others `NAME-small.json` or `NAME-tiny.json`: they never take the
    place of the figures that count.

    Args:
        name: the benchmark's.
        size: "full", "small" or "tiny".
        results: the folder.
        found: everything measured.
        summary: the few figures of the last line.
    """
    results.mkdir(parents=True, exist_ok=True)
    path = results / f"{name}{'' if size == 'full' else f'-{size}'}.json"
    whole = {"benchmark": name, "size": size, "environment": environment(), "summary": dict(summary), **found}
    path.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({"benchmark": name, "size": size, **summary}), flush=True)


def print_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows under a head, columns aligned to the right; floats with three significant digits."""
    cells = [[_cell(value) for value in row] for row in [head, *rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    for row in cells:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))
    print(flush=True)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return str(value)
