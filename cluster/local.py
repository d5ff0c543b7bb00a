"""Ray on this machine, for as long as a sweep takes."""

import contextlib
import logging
import os
import secrets
import sys
from collections.abc import Iterator

# Read by Ray when it is imported and by the processes it starts.
_SETTINGS = {
    # Ray's services run whatever they are sent. On a machine of its own the node's address is 127.0.0.1 and
    # they listen there only; this switch, made for other systems, is the way to have it so on Linux as well.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is reported to third parties
    "RAY_AIR_NEW_OUTPUT": "0",  # Tune's own tables stay off; progress is the caller's
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # the future default; says nothing about it
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # no CSV, JSON or TensorBoard files a trial: MLflow has it all
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


def configure_ray() -> None:
    """Set Ray's environment for a cluster on this machine; what the user has set stands.

    Raises:
        RuntimeError: Ray was imported before, when it read its environment.
    """
    if "ray" in sys.modules and "RAY_AUTH_MODE" not in os.environ:
        raise RuntimeError("call configure_ray() before anything imports Ray: it reads its environment then")
    for variable, value in _SETTINGS.items():
        os.environ.setdefault(variable, value)
    if os.environ["RAY_AUTH_MODE"] == "token":
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


@contextlib.contextmanager
def local_ray(cpus: int | None = None) -> Iterator[None]:
    """Start Ray in this process and on this machine only, and stop it at the end.

    The dashboard stays off, every port listens on the loopback address, and requests need a token that
    only this process and its children know.

    Args:
        cpus: cores that Ray may use; those that this process may use when None.
    """
    configure_ray()
    import ray

    ray.init(
        address="local",
        num_cpus=cpus or len(os.sched_getaffinity(0)),
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    try:
        yield
    finally:
        ray.shutdown()
