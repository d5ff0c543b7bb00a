"""`python -m mlflow_server.child server …`: MLflow's own command, once its databases can be opened.

A module of its own, so that only the server's process pays for the import of MLflow.
"""

import configparser
import os
import sys

from mlflow_server.errors import ServerError
from mlflow_server.schema import prepare_accounts, prepare_tracking


def main() -> None:
    """Prepare the databases that the environment names, and run MLflow's command."""
    try:
        prepare_tracking(os.environ["MLFLOW_BACKEND_STORE_URI"])
        if path := os.environ.get("MLFLOW_AUTH_CONFIG_PATH"):
            configuration = configparser.ConfigParser()
            configuration.read(path)
            prepare_accounts(configuration["mlflow"]["database_uri"])
    except ServerError as error:
        sys.exit(str(error))
    from mlflow.cli import cli

    cli(prog_name="mlflow")


if __name__ == "__main__":
    main()
