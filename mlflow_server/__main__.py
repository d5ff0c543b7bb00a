"""`python -m mlflow_server`: the server where the rest of the project is not installed, as in a container."""

import argparse
import os
import sys
from pathlib import Path

from mlflow_server import ServerError, ServerSettings, SettingError, ends_on_signals, serve


def main() -> int:
    """Run the server; returns the exit status: 0 done, 2 bad settings, 1 anything else."""
    parser = argparse.ArgumentParser(prog="python -m mlflow_server", description=main.__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=5000)
    parser.add_argument("--db", default=os.environ.get("ARSVD_DB"), help="also read from ARSVD_DB")
    parser.add_argument("--artifacts")
    parser.add_argument("--data", type=Path, default=Path("server"))
    parser.add_argument("--auth", action="store_true")
    parser.add_argument("--allow-host", action="append", default=[])
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    settings = ServerSettings(
        data=given.data,
        host=given.host,
        port=given.port,
        database=given.db,
        artifacts=given.artifacts,
        authentication=True if given.auth else None,
        names=tuple(given.allow_host),
        workers=given.workers,
    )
    try:
        with ends_on_signals(), serve(settings) as server:
            sys.stderr.writelines(f"{notice}\n" for notice in server.notices)
            sys.stdout.write(f"{server.introduction()}\n")
            sys.stdout.flush()
            server.watch()
    except (SettingError, ServerError) as error:
        sys.stderr.write(f"{error}\n")
        return 2 if isinstance(error, SettingError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
