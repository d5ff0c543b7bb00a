"""Commands around a sweep: the web interface and data sets."""

import contextlib
from pathlib import Path

import click

from sweeps.cli.errors import reports_errors
from sweeps.cli.options import DATA_DIR


@click.command()
@click.option(
    "--port", type=click.IntRange(0, 65535), default=5000, show_default=True, help="0 takes a free one."
)
@reports_errors
def ui(port: int) -> None:
    """Open MLflow's web interface on this machine's sweeps (loopback address only)."""
    from mlflow_server.ui import serve
    from sweeps.tracking.connection import arsvd_home, tracking_uri

    uri = tracking_uri()
    if uri.startswith(("http://", "https://")):
        click.echo(f"MLFLOW_TRACKING_URI names a server that runs already: {uri}")
        return
    from sweeps.tracking import connect

    connect(uri)
    with serve(uri, (arsvd_home() / "artifacts").as_uri(), port) as address:
        click.echo(f"MLflow is at {address}/#/experiments?workflowType=machine_learning - end it with Ctrl-C")
        with contextlib.suppress(KeyboardInterrupt):
            _wait_for_ever()


def _wait_for_ever() -> None:
    import signal

    while True:
        signal.pause()


@click.command()
@click.argument("name")
@DATA_DIR
@reports_errors
def data(name: str, data_dir: Path | None) -> None:
    """Fetch a data set: digits, mnist, cifar10 or cifar100."""
    from arsvd.data import fetch

    click.echo(f"{name} is in {fetch(name, root=data_dir)}")
