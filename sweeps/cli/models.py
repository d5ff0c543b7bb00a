"""Commands that output models: the best of a data set, or a compressed one of the user's."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from arsvd.statistics import BASES
from sweeps.cli.errors import InputError, reports_errors
from sweeps.cli.options import AS_JSON, EXISTING_FILE, echo_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sweeps.tracking import RegisteredVersion


@click.command()
@click.argument("dataset")
@click.option(
    "--max-drop",
    type=float,
    help="Choose the fewest parameters within this of the best dense accuracy, such as 0.005.",
)
@click.option("--max-params", type=int, help="Choose the most accurate with at most this many parameters.")
@click.option(
    "--export",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Save the model here, .safetensors or .pt2.",
)
@AS_JSON
@reports_errors
def best(
    dataset: str, max_drop: float | None, max_params: int | None, export: Path | None, as_json: bool
) -> None:
    """Say which registered model of a data set is the best, and save it."""
    from arsvd.files.endings import check_output
    from sweeps.report.console import print_version
    from sweeps.tracking import find_best

    try:
        if export is not None:
            check_output(export)
        version = find_best(dataset, max_drop=max_drop, max_params=max_params)
        if export is not None:
            _export(version, export)
    except ValueError as error:  # limits out of range, or a file that is not the one registered
        raise InputError(str(error)) from error
    if as_json:
        echo_json(version.to_dict())
    else:
        print_version(Console(), version, export)


def _export(version: "RegisteredVersion", path: Path) -> None:
    import torch

    from arsvd.files.endings import EXPORTED, ending
    from sweeps.foreign.compressing import written
    from sweeps.tracking import connect
    from sweeps.tracking.registry import input_shape, load_version

    client = connect()
    model = load_version(client, version)
    # zeros: the content of an example may end up in the file
    example = torch.zeros(3, *input_shape(client, version)) if ending(path) == EXPORTED else None
    written(model, path, example, version.to_dict())


@click.command()
@click.argument("model", type=EXISTING_FILE)
@click.option(
    "--output",
    "-o",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="The file to write, .safetensors or .pt2.",
)
@click.option("--energy", type=float, help="Target: share of each layer's energy to keep, in (0, 1].")
@click.option("--max-params", type=int, help="Target: largest number of parameters that the model may store.")
@click.option("--max-macs", type=int, help="Target: most multiplications per input row in the linear layers.")
@click.option(
    "--max-drop",
    type=float,
    help="Target: fewest parameters that lose no more accuracy than this, at --confidence, such as 0.005.",
)
@click.option(
    "--confidence",
    type=float,
    default=0.95,
    show_default=True,
    help="Confidence in --max-drop, in [0.5, 1): half of the labelled rows choose, the others confirm.",
)
@click.option(
    "--labelled",
    type=EXISTING_FILE,
    help="Arrays `inputs` and `labels`, .npz or .safetensors. Without --calibration they also calibrate.",
)
@click.option(
    "--calibration",
    type=EXISTING_FILE,
    help="Inputs of the model as .npy, rows first.",
)
@click.option(
    "--basis",
    type=click.Choice(BASES.names),
    help="Basis of the factorisation.  [default: activation with inputs, else weight]",
)
@click.option("--multiple", type=int, default=1, show_default=True, help="Round ranks to a multiple of this.")
@click.option(
    "--factory",
    metavar="MODULE:FUNCTION",
    help="Function that builds the dense model, for files of weights. Its module is imported.",
)
@click.option(
    "--scale",
    type=float,
    metavar="NUMBER",
    help="Divide inputs by this: 255 for pixels kept as bytes, 1 to take bytes as they are.",
)
@click.option("--skip", multiple=True, metavar="LAYER", help="Leave this layer dense; may be repeated.")
@AS_JSON
@reports_errors
def compress(
    model: Path,
    output: Path,
    energy: float | None,
    max_params: int | None,
    max_macs: int | None,
    max_drop: float | None,
    confidence: float,
    labelled: Path | None,
    calibration: Path | None,
    basis: str | None,
    multiple: int,
    factory: str | None,
    scale: float | None,
    skip: tuple[str, ...],
    as_json: bool,
) -> None:
    """Compress the linear layers and convolutions of a model; no pickle is read.

    MODEL is a .pt2 file of torch.export, a file of `arsvd.save`, or with --factory a state dict or a
    checkpoint that has one, in a file of torch.save or safetensors. The content decides what it is, not the
    ending. Give one target.
    """
    from sweeps.foreign.compressing import Data, Target, compress_file
    from sweeps.ledger.storage import StorageError
    from sweeps.report.console import print_plan

    try:
        target = Target(energy, max_params, max_macs, max_drop, confidence)
        data = Data(calibration, labelled, scale)
        with _steps() as (say, progress):
            done = compress_file(
                model,
                output,
                target,
                data,
                basis=basis,
                multiple=multiple,
                factory=factory,
                skip=skip,
                say=say,
                progress=progress,
            )
    except StorageError:
        raise
    except (ValueError, OSError) as error:
        raise InputError(str(error)) from error
    if as_json:
        echo_json(done.to_dict())
    else:
        for note in done.notes:
            click.echo(note)
        print_plan(Console(), done.plan, output, done.load)
        click.echo(f"{done.bytes_before:,} → {done.bytes_after:,} bytes on disk")
        if done.dense is not None and done.small is not None:
            click.echo(f"accuracy {done.dense.accuracy:.2%} -> {done.small.accuracy:.2%} on {labelled}")
        if done.confirmation is not None:
            click.echo(f"of it    {done.confirmation}")


@contextlib.contextmanager
def _steps() -> "Iterator[tuple[Callable[[str], None], Callable[[int, int], None]]]":
    """Show on a terminal what is being done, how far it is and how long it takes."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)
        yield (
            lambda text: bar.reset(task, description=text, total=None),
            lambda done, total: bar.update(task, completed=done, total=total),
        )
