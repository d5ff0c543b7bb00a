"""Commands that run sweeps and show them."""

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from sweeps.cli.errors import leave, reports_errors
from sweeps.cli.options import AS_JSON, DATA_DIR, FORCE, echo_json

if TYPE_CHECKING:
    from sweeps.run.preparing import Prepared
    from sweeps.run.progress import Progress
    from sweeps.run.runner import SweepStoppedError


_ADDRESS = click.option(
    "--address", help="Ray cluster to run on: auto, or HOST:PORT. Without it Ray runs in this process only."
)
_QUIET = click.option("--quiet", is_flag=True, help="Show no progress; print the result only.")


@click.command()
@click.argument("config")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@DATA_DIR
@_ADDRESS
@_QUIET
@AS_JSON
@reports_errors
def sweep(
    config: str,
    overrides: tuple[str, ...],
    data_dir: Path | None,
    address: str | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Run a sweep.

    CONFIG is a sweep file or the name of a bundled one: digits, mnist, cifar10, cifar100. KEY=VALUE changes
    one of its keys, such as search.trials=16.
    """
    from sweeps.config import load_config

    checked = load_config(config, overrides)
    progress = _progress(quiet or as_json)
    _configure(address)
    from sweeps.run.preparing import prepare
    from sweeps.tracking.connection import sweeps_home
    from sweeps.tracking.unused import no_unused_store

    with no_unused_store():
        _run(prepare(checked, sweeps_home(), data_dir), progress, address, as_json)


@click.command()
@click.argument("sweep_id", metavar="SWEEP")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@DATA_DIR
@_ADDRESS
@FORCE
@_QUIET
@AS_JSON
@reports_errors
def resume(
    sweep_id: str,
    overrides: tuple[str, ...],
    data_dir: Path | None,
    address: str | None,
    force: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Continue a sweep: train what is missing, and finish it.

    SWEEP is an id from `arsvd list`, or the beginning of one. Members on file are not trained again.
    KEY=VALUE changes search.trials, which extends the sweep, resources.* or select.*; other keys are fixed.
    """
    progress = _progress(quiet or as_json)
    from sweeps.ledger.ledger import Ledger
    from sweeps.tracking.connection import sweeps_home

    ledger = Ledger.open(sweeps_home(), sweep_id)
    _configure(address)
    from sweeps.run.resuming import prepare_resume

    _run(prepare_resume(ledger, overrides, data_dir, force), progress, address, as_json)


def _progress(quiet: bool) -> "Progress":
    """Show something before the packages that take seconds to load."""
    from sweeps.run.progress import STARTING, make_progress

    progress = make_progress(quiet)
    progress.note(STARTING)
    return progress


def _configure(address: str | None) -> None:
    """Set up Ray's environment, before anything imports Ray."""
    from cluster.local import configure_ray

    configure_ray(address)


def _run(prepared: "Prepared", progress: "Progress", address: str | None, as_json: bool) -> None:
    from cluster.attach import ray_session
    from cluster.shared import check_shared_storage
    from sweeps.report.console import outcome_json, print_outcome
    from sweeps.run.interruption import watch_signals
    from sweeps.run.runner import ClusterLostError, SweepStoppedError, run_sweep
    from sweeps.tracking.publishing import check_published

    with contextlib.ExitStack() as stack:
        interruption = stack.enter_context(watch_signals())
        stack.callback(progress.close)
        interruption.last_words = stack.enter_context(ray_session(address))
        if address is not None:
            check_shared_storage(str(prepared.home))
        try:
            outcome = run_sweep(replace(prepared, address=address), progress, interruption)
        except (ClusterLostError, SweepStoppedError) as error:
            progress.close()
            if isinstance(error, SweepStoppedError):
                with contextlib.suppress(OSError):  # the terminal may be gone, which is why the sweep ends
                    _print_stopped(error, as_json)
            if address is None or interruption.lost:
                leave(error)  # Ray may be ending too, and waiting for it would be in vain
            raise
    finished = outcome.finished
    if as_json:
        echo_json(outcome_json(outcome.ledger.facts, outcome.front, finished.aliases))
    else:
        print_outcome(
            Console(),
            outcome.ledger,
            outcome.front,
            finished.aliases,
            outcome.failed,
            prepared.client.tracking_uri,
            finished.run_page,
        )
    check_published(outcome.ledger, finished.missing, prepared.client.tracking_uri)


def _print_stopped(stopped: "SweepStoppedError", as_json: bool) -> None:
    from sweeps.report.console import outcome_json, print_front

    facts, front = stopped.ledger.facts, stopped.front
    if as_json:
        echo_json(outcome_json(facts, front))
    else:
        print_front(Console(), facts, front, final=False)


@click.command()
@click.argument("config")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@AS_JSON
@reports_errors
def validate(config: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Check a sweep file and print it as it would be run."""
    from sweeps.config import config_to_params, dump_config, load_config

    checked = load_config(config, overrides)
    if as_json:
        echo_json(config_to_params(checked))
    else:
        click.echo(dump_config(checked, comments=True).rstrip())


@click.command(name="list")
@AS_JSON
@reports_errors
def list_sweeps(as_json: bool) -> None:
    """List the sweeps of this home, oldest first."""
    from sweeps.report.console import print_sweeps, sweep_rows
    from sweeps.tracking.connection import sweeps_home

    rows = sweep_rows(sweeps_home())
    if as_json:
        echo_json(rows)
    else:
        print_sweeps(Console(), rows, sweeps_home())


@click.command()
@click.argument("sweep_id", metavar="SWEEP")
@AS_JSON
@reports_errors
def show(sweep_id: str, as_json: bool) -> None:
    """Print a sweep's front beside the fixed-rank and the weight-energy fronts.

    SWEEP is an id from `arsvd list`, or the beginning of one.
    """
    from sweeps.ledger.ledger import Ledger, NewerError
    from sweeps.ledger.standing import find_damage, standing_front
    from sweeps.report.console import outcome_json, print_front
    from sweeps.run.resuming import resume_line
    from sweeps.tracking.connection import sweeps_home

    ledger = Ledger.open(sweeps_home(), sweep_id)
    front, final = standing_front(ledger)
    if as_json:
        echo_json(outcome_json(ledger.facts, front))
    else:
        print_front(Console(), ledger.facts, front, final)
    for damage in find_damage(ledger):
        advice = "" if isinstance(damage, NewerError) else f"; mend it with: {resume_line(ledger)}"
        click.echo(f"arsvd: {damage}{advice}", err=True)
