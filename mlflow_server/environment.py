"""The environment of a server's process."""

import os

# Nothing is reported to third parties; language models are not served, and the seven or so processes that
# evaluate them stay off.
_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_ENABLE_AI_GATEWAY": "false",
    "PYTHONUNBUFFERED": "1",
}
# Settings of a shell that uses another server, or that has a safeguard switched off, must not affect this
# one.
_FOREIGN = ("MLFLOW_", "_MLFLOW_", "UVICORN_", "GUNICORN_")
_KEPT = ("MLFLOW_S3_", "MLFLOW_BOTO_", "MLFLOW_SQLALCHEMYSTORE_", "MLFLOW_LOGGING_")


def child_environment() -> dict[str, str]:
    """Return this process's environment without the settings of other servers and clients."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_FOREIGN) or name.startswith(_KEPT)
    }
    return kept | _SETTINGS
