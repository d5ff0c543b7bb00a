"""Commands that run sweeps and show them."""

import contextlib
import json
from pathlib import Path

import click
from rich.console import Console

from sweeps.cli.errors import reports_errors
from sweeps.cli.options import AS_JSON, DATA_DIR


@click.command()
@click.argument("config")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@DATA_DIR
@click.option("--quiet", is_flag=True, help="Show no progress; print the result only.")
@AS_JSON
@reports_errors
def sweep(config: str, overrides: tuple[str, ...], data_dir: Path | None, quiet: bool, as_json: bool) -> None:
    """Run a sweep.

    CONFIG is a sweep file or the name of a bundled one: digits, mnist, cifar10, cifar100. KEY=VALUE changes a
    key of it, such as search.trials=16.
    """
    from sweeps.config import load_config

    checked = load_config(config, overrides)
    from cluster.local import configure_ray, local_ray

    configure_ray()
    from sweeps.progress import make_progress
    from sweeps.report.console import outcome_json, print_outcome
    from sweeps.runner import prepare, run_sweep
    from sweeps.tracking import arsvd_home

    prepared = prepare(checked, arsvd_home(), data_dir)
    progress = make_progress(quiet or as_json)
    with contextlib.ExitStack() as stack:
        stack.callback(progress.close)
        stack.enter_context(local_ray())
        outcome = run_sweep(prepared, progress)
    aliases = outcome.finished.aliases
    if as_json:
        click.echo(json.dumps(outcome_json(outcome.ledger.facts, outcome.front, aliases)))
    else:
        print_outcome(Console(), outcome.ledger, outcome.front, aliases, outcome.failed)


@click.command()
@click.argument("config")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@AS_JSON
@reports_errors
def validate(config: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Check a sweep file and print it as it would be run."""
    from sweeps.config import config_to_params, dump_config, load_config

    checked = load_config(config, overrides)
    click.echo(json.dumps(config_to_params(checked)) if as_json else dump_config(checked).rstrip())


@click.command(name="list")
@AS_JSON
@reports_errors
def list_sweeps(as_json: bool) -> None:
    """List the sweeps of this home, oldest first."""
    from sweeps.report.console import print_sweeps, sweep_rows
    from sweeps.tracking.connection import arsvd_home

    rows = sweep_rows(arsvd_home())
    if as_json:
        click.echo(json.dumps(rows))
    else:
        print_sweeps(Console(), rows, arsvd_home())


@click.command()
@click.argument("sweep_id", metavar="SWEEP")
@AS_JSON
@reports_errors
def show(sweep_id: str, as_json: bool) -> None:
    """Print a sweep's front beside the fixed-rank and the weight-energy fronts.

    SWEEP is an id from `arsvd list`, or a beginning of one.
    """
    from sweeps.ledger import Ledger
    from sweeps.report.console import outcome_json, print_front
    from sweeps.standing import standing_front
    from sweeps.tracking.connection import arsvd_home

    ledger = Ledger.open(arsvd_home(), sweep_id)
    front, final = standing_front(ledger)
    if as_json:
        click.echo(json.dumps(outcome_json(ledger.facts, front)))
    else:
        print_front(Console(), ledger.facts, front, final)
