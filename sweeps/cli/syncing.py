"""The command that completes MLflow from a sweep's directory."""

from pathlib import Path

import click

from sweeps.cli.errors import reports_errors
from sweeps.cli.options import AS_JSON, DATA_DIR, FORCE, echo_json


@click.command()
@click.argument("sweep_id", metavar="SWEEP")
@click.option(
    "--to",
    metavar="URI",
    help="The tracking server; else MLFLOW_TRACKING_URI, else the home's own store. Name and password go "
    "into MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD.",
)
@DATA_DIR
@FORCE
@AS_JSON
@reports_errors
def sync(sweep_id: str, to: str | None, data_dir: Path | None, force: bool, as_json: bool) -> None:
    """Add to MLflow what it lacks of a sweep: runs, models, aliases, report.

    SWEEP is an id from `arsvd list`, or the beginning of one. The command can be repeated without duplicates.
    The data set is needed where models are missing. The exit status is 1 if something could not be stored.
    """
    from sweeps.ledger.ledger import Ledger
    from sweeps.run.syncing import sync_sweep
    from sweeps.tracking import redact
    from sweeps.tracking.connection import sweeps_home
    from sweeps.tracking.publishing import check_published

    ledger = Ledger.open(sweeps_home(), sweep_id)
    done = sync_sweep(
        ledger, to=to, data_dir=data_dir, force=force, told=lambda text: click.echo(text, err=True)
    )
    server = redact(done.uri)
    if as_json:
        missing = [{"what": missed.what, "cause": missed.cause} for missed in done.missing]
        echo_json({"server": server, "members": done.members, "missing": missing})
    else:
        state = "finished" if done.final else "has not ended: no models yet"
        click.echo(f"{server} has {done.members} members of {ledger.facts.id} ({state})")
    check_published(ledger, done.missing, done.uri, f" --to {server}" if to is not None else "")
