"""Commands around a sweep: the web interface, the tracking server and data sets."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sweeps.cli.errors import InputError, reports_errors
from sweeps.cli.options import DATA_DIR, known_user

if TYPE_CHECKING:
    from mlflow import MlflowClient

_PORT = click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=5000,
    show_default=True,
    help="TCP port; 0 takes a free one.",
)


@click.command()
@click.argument("sweep_id", metavar="[SWEEP]", required=False)
@_PORT
@reports_errors
def ui(sweep_id: str | None, port: int) -> None:
    """Open MLflow's web interface on this machine's sweeps (loopback address only).

    The printed link leads to the sweeps on the data set of the newest sweep, or to the run of SWEEP: an id
    from `arsvd list`, or the beginning of one.
    """
    from mlflow_server import ends_on_signals
    from mlflow_server.ui import browse
    from sweeps.ledger.ledger import Ledger
    from sweeps.tracking.connection import arsvd_home, connect, has_store, sweeps_home, tracking_uri
    from sweeps.tracking.links import address
    from sweeps.tracking.outages import redact

    uri = tracking_uri()
    if not has_store(uri):
        raise InputError(f"there is nothing to browse at {redact(uri)} yet; begin with: arsvd sweep digits")
    sweep = None if sweep_id is None else Ledger.open(sweeps_home(), sweep_id).facts.id
    if uri.startswith(("http://", "https://")):
        place = redact(uri) if sweep is None else address(uri, _page(connect(uri), sweep))
        click.echo(f"MLFLOW_TRACKING_URI names a server that runs already: {place}")
        return
    with ends_on_signals():
        page = _page(connect(uri), sweep)
        with browse(uri, (arsvd_home() / "artifacts").as_uri(), port) as server:
            click.echo(f"MLflow is at {address(server.address, page)} - end it with Ctrl-C")
            server.watch()


def _page(client: "MlflowClient", sweep: str | None) -> str:
    from sweeps.tracking.browsing import newest_page, sweep_page

    return newest_page(client) if sweep is None else sweep_page(client, sweep)


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@_PORT
@click.option(
    "--db",
    envvar="ARSVD_DB",
    callback=known_user,
    metavar="URI",
    help="sqlite:///PATH or postgresql://USER@HOST:PORT/NAME, with the password in PGPASSWORD or ~/.pgpass; "
    "also read from ARSVD_DB.  [default: an SQLite file in the data folder]",
)
@click.option(
    "--artifacts",
    metavar="PLACE",
    callback=known_user,
    help="A folder or s3://BUCKET/PREFIX.  [default: in the data folder]",
)
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    callback=known_user,
    help="Folder for the server's own files.  [default: server/ in ARSVD_HOME]",
)
@click.option(
    "--auth", is_flag=True, help="Require an account; always on where others can reach the address."
)
@click.option(
    "--allow-host",
    "names",
    multiple=True,
    metavar="NAME",
    help="Further host name by which browsers address it.",
)
@click.option(
    "--workers", type=click.IntRange(1), default=1, show_default=True, help="Number of processes that answer."
)
@click.option("--tls-certificate", type=click.Path(dir_okay=False, path_type=Path), help="Serve https.")
@click.option("--tls-key", type=click.Path(dir_okay=False, path_type=Path), help="The certificate's key.")
@reports_errors
def server(
    host: str,
    port: int,
    db: str | None,
    artifacts: str | None,
    data: Path | None,
    auth: bool,
    names: tuple[str, ...],
    workers: int,
    tls_certificate: Path | None,
    tls_key: Path | None,
) -> None:
    """Run an MLflow tracking server that several machines and people share."""
    from mlflow_server import ServerSettings, ends_on_signals, serve
    from mlflow_server.database import has_password
    from sweeps.tracking.connection import arsvd_home

    if (tls_certificate is None) != (tls_key is None):
        raise InputError("--tls-certificate and --tls-key go together: give both or none")
    settings = ServerSettings(
        data=arsvd_home() / "server" if data is None else data,
        host=host,
        port=port,
        database=db,
        artifacts=artifacts,
        authentication=True if auth else None,
        names=names,
        workers=workers,
        tls=None if tls_certificate is None or tls_key is None else (tls_certificate, tls_key),
    )
    given = click.get_current_context().get_parameter_source("db")
    if db and given is click.core.ParameterSource.COMMANDLINE and has_password(db):
        click.echo(
            "arsvd: every user of this machine can read the password in --db in the list of processes; "
            "set ARSVD_DB instead, or leave the password to PGPASSWORD or ~/.pgpass",
            err=True,
        )
    with ends_on_signals(), serve(settings) as running:
        for notice in running.notices:
            click.echo(f"arsvd: {notice}", err=True)
        click.echo(running.introduction())
        running.watch()


@click.command()
@click.argument("name")
@DATA_DIR
@reports_errors
def data(name: str, data_dir: Path | None) -> None:
    """Fetch a data set: digits, mnist, cifar10 or cifar100."""
    from arsvd.data import fetch

    click.echo(f"{name} is in {fetch(name, root=data_dir)}")
