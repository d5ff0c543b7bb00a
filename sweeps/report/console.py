"""The output of the commands."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from arsvd import Plan
from arsvd.coverage import Coverage
from arsvd.files.endings import load_line
from arsvd.sites.finding import listed
from sweeps.ledger.ledger import Ledger, LedgerError, NewerError, sweep_ids
from sweeps.ledger.records import FAILED, Front, SweepFacts
from sweeps.ledger.standing import standing_front
from sweeps.ledger.storage import StorageError
from sweeps.report.assurance import assurance
from sweeps.report.table import baseline_table, front_table, network_table, plain
from sweeps.tracking.descriptions import mlflow_lines
from sweeps.tracking.links import LOCAL_SERVER, address

if TYPE_CHECKING:
    from sweeps.tracking import RegisteredVersion

_PIPE_WIDTH = 120


def print_front(console: Console, facts: SweepFacts, front: Front, final: bool) -> None:
    """Print a sweep's front, with the baselines' beside it.

    Args:
        console: console to print to.
        facts: facts about the sweep.
        front: front of the sweep.
        final: True if the sweep has ended; until then there are no test figures.
    """
    state = "front" if final else "front so far (the sweep has not ended; no test figures)"
    _say(console, f"{state} of {facts.id}")
    if not front.points:
        _say(console, "no member has finished yet")
        return
    _say(
        console,
        f"accuracies on {front.validation_images:,} validation images"
        + (f" and {front.test_images:,} test images" if front.test_images else ""),
    )
    _say(console, "")
    width = console.width if console.is_terminal else _PIPE_WIDTH
    console.width = width
    console.print(network_table(front))
    _say(console, "")
    console.print(front_table(front, width))
    _say(console, "")
    console.print(baseline_table(front))


def print_outcome(
    console: Console,
    ledger: Ledger,
    front: Front,
    aliases: "dict[str, RegisteredVersion]",
    failed: int,
    server: str,
    page: str,
) -> None:
    """Print the results of a finished sweep, and what to do with them.

    Args:
        console: console to print to.
        ledger: directory of the sweep.
        front: final front.
        aliases: registered versions by alias; empty where the models could not be stored in MLflow.
        failed: number of members that failed.
        server: address of the tracking server.
        page: page of the sweep's run on the server.
    """
    facts = ledger.facts
    print_front(console, facts, front, final=True)
    _say(console, "")
    if failed:
        _say(console, f"members failed: {failed}; the causes are in {ledger.locate('members')} and in MLflow")
    for alias, version in aliases.items():
        _say(console, f"{alias + ':':<15}{version_text(version)}")
    drop = ledger.config.select.max_drop
    if aliases and "best" not in aliases:
        _say(console, f"{'best:':<15}none is surely within {drop:g} of the best dense member")
    for line in assurance(front, drop):
        _say(console, line)
    _say(console, "")
    _say(console, f"report   {ledger.locate('report/front.html')}")
    if server.startswith("http"):
        _say(console, f"browse   {address(server, page)}")
    else:  # nothing is running yet that would serve the page
        _say(console, f"browse   arsvd ui {facts.id}")
        _say(console, f"page     {address(LOCAL_SERVER, page)} (while arsvd ui runs)")
    if aliases:  # empty where MLflow was away: there is nothing to load yet
        choice = f"max_drop={drop:g}" if "best" in aliases else 'alias="most-accurate"'
        call = f'load_best("{facts.dataset}", {choice})'
        _say(console, f"load     from sweeps import load_best; model = {call}")
    _say(console, f"again    arsvd show {facts.id}")


def print_version(console: Console, version: "RegisteredVersion", export: Path | None) -> None:
    """Print which registered model was chosen."""
    _say(console, version_text(version))
    _say(console, f"load     {'; '.join(mlflow_lines(version.uri).splitlines())}")
    if export is not None:
        _say(console, f"saved    {export}; load it with {load_line(export)}")


def version_text(version: "RegisteredVersion") -> str:
    """Describe a registered version in one line."""
    test = "" if version.test_accuracy is None else f", test {version.test_accuracy:.2%}"
    scale = "" if version.scale == 255 else f"; its input is the images' levels divided by {version.scale:g}"
    return (
        f"{version.name} version {version.version}: {version.params:,} parameters, "
        f"validation {version.validation_accuracy:.2%}{test}{scale}"
    )


def print_plan(console: Console, plan: Plan, output: Path, load: str | None = None) -> None:
    """Print what a compression did to each layer, and the line that loads the file."""
    table = Table(box=None, pad_edge=False)
    for header in ("layer", "shape", "rank", "kept energy", "parameters"):
        table.add_column(header, justify="left" if header == "layer" else "right", no_wrap=True)
    for layer in plan.layers:
        rank = layer.choice.text
        shape = f"{layer.out_features} x {layer.in_features}"
        table.add_row(plain(layer.name), shape, rank, f"{layer.kept_energy:.4f}", f"{layer.cost.numbers:,}")
    console.print(table)
    _say(
        console,
        f"{plan.dense_cost.numbers:,} -> {plan.cost.numbers:,} parameters ({plan.ratio:.1f}x), "
        f"{plan.basis} basis",
    )
    if plan.coverage is not None:
        _say(console, coverage_text(plan.coverage, len(plan.layers)))
    _say(console, f"saved    {output}; load it with {load or load_line(output)}")


def coverage_text(coverage: Coverage, layers: int) -> str:
    """Say in one line how much of a model a plan for this many layers covers, and what stays dense."""
    share = coverage.macs_share
    macs = "" if share is None else f", {_percent(share)} of the MACs"
    text = (
        f"covers {layers} of {layers + len(coverage.skipped)} layers, "
        f"{_percent(coverage.params_share)} of the numbers{macs}"
    )
    return f"{text}; left dense: {listed(coverage.skipped)}" if coverage.skipped else text


def _percent(share: float) -> str:
    # rounded down: less than everything must not be called 100 %
    return f"{math.floor(share * 1000) / 10:.1f} %"


def sweep_rows(home: Path | str) -> list[dict[str, Any]]:
    """List the sweeps of a home, oldest first, as one flat record each; unreadable ones say why."""
    return [_sweep_row(home, sweep_id) for sweep_id in sweep_ids(home)]


def _sweep_row(home: Path | str, sweep_id: str) -> dict[str, Any]:
    ledger = Ledger.at(home, sweep_id)
    try:
        facts, config = ledger.facts, ledger.config
        front, final = standing_front(ledger)
        records = ledger.members()
    except NewerError as error:
        return {"sweep": sweep_id, "state": "of a newer release", "cause": str(error)}
    except (LedgerError, StorageError, ValueError) as error:
        return {"sweep": sweep_id, "state": "damaged", "cause": str(error)}
    best = front.best
    return {
        "sweep": facts.id,
        "state": "finished" if final else "not finished",
        "dataset": facts.dataset,
        "began": facts.began,
        "members": len(records),
        "failed": sum(record.status == FAILED for record in records),
        "trials": config.search.trials,
        "hypervolume": front.hypervolume,
        "best_params": None if best is None else best.point.cost.numbers,
        "best_accuracy": None if best is None else best.point.accuracy,
    }


def print_sweeps(console: Console, rows: list[dict[str, Any]], home: Path | str) -> None:
    """Print the sweeps of a home as a table."""
    if not rows:
        _say(console, f"no sweeps in {home} yet; begin with: arsvd sweep digits")
        return
    table = Table(box=None, pad_edge=False)
    for header in ("sweep", "data", "members", "hypervolume", "best", "state"):
        table.add_column(
            header, justify="right" if header in ("members", "hypervolume") else "left", no_wrap=True
        )
    for row in rows:
        if "cause" in row:
            table.add_row(plain(row["sweep"]), "", "", "", "", row["state"])
            continue
        failed = f" ({row['failed']} failed)" if row["failed"] else ""
        best = "" if row["best_params"] is None else f"{row['best_params']:,} at {row['best_accuracy']:.2%}"
        table.add_row(
            plain(row["sweep"]),
            plain(row["dataset"]),
            f"{row['members']}/{row['trials']}{failed}",
            f"{row['hypervolume']:.4f}",
            best,
            row["state"],
        )
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    console.print(table)
    for row in rows:
        if "cause" in row:
            _say(console, f"{row['sweep']}: {row['cause']}")


def outcome_json(
    facts: SweepFacts, front: Front, aliases: "dict[str, RegisteredVersion] | None" = None
) -> dict[str, Any]:
    """Gather a sweep's result for scripts."""
    return {
        "sweep": facts.id,
        "dataset": facts.dataset,
        "front": front.to_dict(),
        "aliases": {alias: version.to_dict() for alias, version in (aliases or {}).items()},
    }


def _say(console: Console, text: str) -> None:
    # a path must not be broken across lines
    lines = [plain(line) for line in text.split("\n")]
    console.print(Text("\n").join(lines), highlight=False, soft_wrap=True)
