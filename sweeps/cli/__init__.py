"""The `arsvd` command: it reads arguments, calls the other packages and prints; it decides nothing else.

Commands import what they need when they run, since the packages behind them take seconds to load.
"""

import click

from sweeps.cli import cluster, models, services, sweeping, syncing


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="arsvd", prog_name="arsvd")
def main() -> None:
    """Search the best compressed MLP for a data set, browse what was found, load it."""


for _command in (
    sweeping.sweep,
    sweeping.resume,
    sweeping.validate,
    sweeping.list_sweeps,
    sweeping.show,
    syncing.sync,
    models.best,
    models.compress,
    services.ui,
    services.server,
    services.data,
    cluster.submit,
    cluster.jobs,
    cluster.logs,
    cluster.stop,
):
    main.add_command(_command)
