"""The `arsvd` command. It reads arguments, calls the rooms, prints; nothing else is decided here."""

import contextlib
import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from arsvd import __version__

BAD_INPUT, FAILURE, INTERRUPTED = 2, 1, 130
DATA_DIR = click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where data sets lie; else ARSVD_DATA, else ~/.cache/arsvd.",
)
EXISTING_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")


def reports_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Turn the errors that a user can mend into one message and exit status 2."""

    @functools.wraps(command)
    def wrapped(*arguments: Any, **keywords: Any) -> None:
        try:
            command(*arguments, **keywords)
        except KeyboardInterrupt:
            _stop("interrupted", INTERRUPTED)
        except Exception as error:
            status = _status(error)
            if status is None:
                raise  # a fault of this software: the traceback is what helps
            _stop(str(error), status)

    return wrapped


def _status(error: Exception) -> int | None:
    # the classes are looked up here, since importing them all would slow every command down
    names = {kind.__name__ for kind in type(error).__mro__}
    if names & {"ConfigError", "DataError", "TrackingError", "LedgerError", "NoModelError", "ResourcesError"}:
        return BAD_INPUT
    if names & {"InputError"}:
        return BAD_INPUT
    return FAILURE if names & {"SweepFailedError", "ServerError"} else None


def _stop(message: str, status: int) -> None:
    click.echo(f"arsvd: {message}", err=True)
    sys.exit(status)


class InputError(ValueError):
    """An argument that cannot be used; the message says why."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="arsvd")
def main() -> None:
    """Search the best compressed MLP for a data set, browse what was found, load it."""


@main.command()
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


@main.command()
@click.argument("config")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@AS_JSON
@reports_errors
def validate(config: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Check a sweep file and print it as it would be run."""
    from sweeps.config import config_to_params, dump_config, load_config

    checked = load_config(config, overrides)
    click.echo(json.dumps(config_to_params(checked)) if as_json else dump_config(checked).rstrip())


@main.command(name="list")
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


@main.command()
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


@main.command()
@click.argument("dataset")
@click.option(
    "--max-drop", type=float, help="Fewest parameters within this of the best dense accuracy, such as 0.005."
)
@click.option("--max-params", type=int, help="Most accurate with at most this many parameters.")
@click.option(
    "--export", type=click.Path(dir_okay=False, path_type=Path), help="Save the model here (.safetensors)."
)
@AS_JSON
@reports_errors
def best(
    dataset: str, max_drop: float | None, max_params: int | None, export: Path | None, as_json: bool
) -> None:
    """Say which registered model of a data set is the best, and save it."""
    import arsvd
    from sweeps.report.console import print_version
    from sweeps.tracking import connect, find_best
    from sweeps.tracking.registry import load_version

    if export is not None and not export.absolute().parent.is_dir():
        raise InputError(f"the folder of {export} does not exist")
    try:
        version = find_best(dataset, max_drop=max_drop, max_params=max_params)
        model = None if export is None else load_version(connect(), version)
    except ValueError as error:  # limits out of range, or a file that is not the one registered
        raise InputError(str(error)) from error
    if export is not None and model is not None:
        arsvd.save(model, export, version.to_dict())
    if as_json:
        click.echo(json.dumps(version.to_dict()))
    else:
        print_version(Console(), version, export)


@main.command()
@click.argument("model", type=EXISTING_FILE)
@click.option(
    "--output",
    "-o",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="The file to write, .safetensors or .pt2.",
)
@click.option("--energy", type=float, help="Target: share of each layer's energy to keep, in (0, 1].")
@click.option("--max-params", type=int, help="Target: most numbers that the model may store.")
@click.option("--max-macs", type=int, help="Target: most multiplications an input row in the linear layers.")
@click.option(
    "--max-drop",
    type=float,
    help="Target: fewest parameters within this of the dense accuracy on the labelled data, such as 0.005.",
)
@click.option(
    "--labelled",
    type=EXISTING_FILE,
    help="Arrays `inputs` and `labels`, .npz or .safetensors. They calibrate too without --calibration.",
)
@click.option(
    "--calibration",
    type=EXISTING_FILE,
    help="Inputs of the model as .npy, rows first. Without any inputs: weight basis.",
)
@click.option(
    "--basis", type=click.Choice(["weight", "activation", "loss"]), help="Else activation with inputs."
)
@click.option("--multiple", type=int, default=1, show_default=True, help="Round ranks to a multiple of this.")
@click.option(
    "--factory",
    metavar="MODULE:FUNCTION",
    help="Makes the dense model, for files of weights. It is imported.",
)
@AS_JSON
@reports_errors
def compress(
    model: Path,
    output: Path,
    energy: float | None,
    max_params: int | None,
    max_macs: int | None,
    max_drop: float | None,
    labelled: Path | None,
    calibration: Path | None,
    basis: str | None,
    multiple: int,
    factory: str | None,
    as_json: bool,
) -> None:
    """Compress the linear layers of a model; no pickle is read.

    MODEL is a .pt2 file of torch.export, a file of `arsvd.save`, or a state dict (.safetensors, .pt, .pth)
    with --factory. Give one target.
    """
    from sweeps.compressing import Data, Target, compress_file
    from sweeps.report.console import print_plan

    try:
        target = Target(energy, max_params, max_macs, max_drop)
        data = Data(calibration, labelled)
        done = compress_file(model, output, target, data, basis=basis, multiple=multiple, factory=factory)
    except ValueError as error:
        raise InputError(str(error)) from error
    if as_json:
        click.echo(json.dumps(done.to_dict()))
    else:
        print_plan(Console(), done.plan, output, done.load)
        if done.dense is not None and done.small is not None:
            click.echo(f"accuracy {done.dense.accuracy:.2%} -> {done.small.accuracy:.2%} on {labelled}")


@main.command()
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


@main.command()
@click.argument("name")
@DATA_DIR
@reports_errors
def data(name: str, data_dir: Path | None) -> None:
    """Fetch a data set: digits, mnist, cifar10 or cifar100."""
    from arsvd.data import fetch

    click.echo(f"{name} is in {fetch(name, root=data_dir)}")


if __name__ == "__main__":
    main()
