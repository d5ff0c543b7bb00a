"""Commands for sweeps as jobs of a Ray cluster."""

import importlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sweeps.cli.errors import InputError, reports_errors
from sweeps.cli.options import AS_JSON, FORCE, echo_json

if TYPE_CHECKING:
    from cluster.jobs import JobServer

_PACKAGES = ("arsvd", "sweeps", "cluster", "mlflow_server")
_ADDRESS = click.option(
    "--address",
    metavar="URL",
    help="The head node's dashboard, http://HEAD:8265.  [default: RAY_API_SERVER_ADDRESS, else RAY_ADDRESS]",
)


@click.command()
@click.argument("config")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@_ADDRESS
@click.option(
    "--home",
    metavar="PLACE",
    help="Where sweeps are kept: a path that all nodes mount, or s3://BUCKET/PREFIX; else ARSVD_HOME.",
)
@click.option("--data-dir", metavar="PATH", help="Where data sets lie on the head node.")
@click.option("--resume", is_flag=True, help="CONFIG is a sweep in that home, to be continued.")
@FORCE
@click.option(
    "--requirements", is_flag=True, help="Have pip install this machine's versions of what arsvd needs first."
)
@click.option("--no-wait", is_flag=True, help="Return once the cluster has the job.")
@AS_JSON
@reports_errors
def submit(
    config: str,
    overrides: tuple[str, ...],
    address: str | None,
    home: str | None,
    data_dir: str | None,
    resume: bool,
    force: bool,
    requirements: bool,
    no_wait: bool,
    as_json: bool,
) -> None:
    """Run a sweep on a cluster, as a Ray job.

    CONFIG and KEY=VALUE are those of `arsvd sweep`. This installation's code goes along with the sweep file;
    the nodes need the packages that it requires. Passwords and tokens in the environment stay here: the
    dashboard shows what a job was given.
    """
    from cluster.jobs import open_job_server
    from cluster.submission import Code
    from cluster.submission import submit as hand_in
    from sweeps.config import dump_config, load_config

    if force and not resume:
        raise InputError("--force goes with --resume: a new sweep has no lock that could be taken")
    command = ["python", "-m", "sweeps.cli"]
    if resume:
        command += ["resume", config, *overrides, *(["--force"] if force else [])]
        files = {}
    else:
        # what is wrong with it is said here, not in a log over there
        files = {"sweep.yaml": dump_config(load_config(config, overrides))}
        command += ["sweep", "sweep.yaml"]
    command += ["--address", "auto", *(["--data-dir", data_dir] if data_dir else [])]
    code = Code("arsvd", tuple(_folder(name) for name in _PACKAGES), requirements)
    server = open_job_server(address)
    done = hand_in(server, command, Path(config).stem, code, files, home)
    for name in done.withheld:
        click.echo(f"arsvd: {name} was not shipped: set it where Ray runs on the head node", err=True)
    if as_json:
        echo_json({"job": done.id, "home": done.home, "address": server.address})
    else:
        click.echo(f"job {done.id} at {server.address}, kept in {done.home}")
    if not no_wait:
        _follow(server, done.id, quiet=as_json)


@click.command()
@click.argument("job")
@_ADDRESS
@click.option("--follow", "-f", is_flag=True, help="Go on until the job ends; exit status 1 if it fails.")
@reports_errors
def logs(job: str, address: str | None, follow: bool) -> None:
    """Print what a job has printed. JOB is an id from `arsvd jobs`."""
    from cluster.jobs import open_job_server

    server = open_job_server(address)
    if follow:
        _follow(server, job)
    else:
        click.echo(server.logs(job), nl=False)


@click.command()
@click.argument("job")
@_ADDRESS
@reports_errors
def stop(job: str, address: str | None) -> None:
    """End a job in order. JOB is an id from `arsvd jobs`.

    What was trained is kept: `arsvd submit SWEEP --resume` goes on from there.
    """
    from cluster.jobs import open_job_server

    ended = open_job_server(address).stop(job)
    click.echo(f"{ended.id} {ended.status.lower()}" if ended.final else f"{ended.id} is ending")


@click.command()
@_ADDRESS
@AS_JSON
@reports_errors
def jobs(address: str | None, as_json: bool) -> None:
    """List the sweeps that were submitted to a cluster, oldest first."""
    from cluster.jobs import open_job_server

    found = open_job_server(address).jobs()
    if as_json:
        echo_json([asdict(job) for job in found])
        return
    for job in found:
        click.echo(f"{job.id}  {job.status.lower()}")


def _folder(package: str) -> Path:
    module = importlib.import_module(package)
    return Path(str(module.__file__)).parent


def _follow(server: "JobServer", job_id: str, quiet: bool = False) -> None:
    """Show a job's output until it ends; the exit status is the job's."""
    from cluster.jobs import ConnectionLostError

    try:
        job = server.follow(job_id, lambda text: click.echo(text, nl=False, err=quiet))
    except ConnectionLostError as error:
        raise JobLostError(str(error)) from error
    except KeyboardInterrupt:
        click.echo(f"\n{job_id} runs on: `arsvd logs -f {job_id}`, `arsvd stop {job_id}`", err=True)
        raise
    if job.status != "SUCCEEDED":
        raise JobFailedError(f"job {job.id} {job.status.lower()}")


class JobFailedError(RuntimeError):
    """A job that ended without success; its log says why."""


class JobLostError(JobFailedError):
    """A job that could not be followed to its end; it runs on."""
