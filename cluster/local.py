"""Ray's settings, and Ray on this machine for as long as a sweep takes."""

import contextlib
import logging
import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cluster.addresses import TOKEN_VARIABLE, find_address, has_token
from cluster.scratch import check_scratch
from cluster.watch import RECONNECT_VARIABLE

log = logging.getLogger(__name__)

_REAP_SECONDS = 10.0  # longer than it takes to end what does not end by itself

# Ray's services run whatever they are sent. On a machine of its own the node's address is 127.0.0.1 and they
# listen there only; this switch, made for other systems, is the way to have it so on Linux as well.
LOOPBACK_ONLY = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
# A cluster of this process's own has no control service that could be started again: where it is gone, with
# this process or by itself, Ray's other processes wait this long for it before they end.
OWN_CLUSTER = LOOPBACK_ONLY | {RECONNECT_VARIABLE: "30"}
# Read by Ray when it is imported and by the processes it starts.
_SETTINGS = {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is reported to third parties
    "RAY_AIR_NEW_OUTPUT": "0",  # Tune's own tables stay off; progress is the caller's
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # the future default; says nothing about it
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # no CSV, JSON or TensorBoard files a trial: MLflow has it all
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


def configure_ray(address: str | None = None) -> None:
    """Set Ray's environment; what the user has set stands.

    Args:
        address: the cluster to join, as `find_address` takes it; None for one of this process's own.

    Raises:
        RuntimeError: Ray was imported before, when it read its environment.
        ClusterError: the address is none, the token's file cannot be read, or the folder for temporary files
            has a name too long for Ray.
    """
    _before_ray()
    settings = dict(_SETTINGS)
    if address is None:
        check_scratch()
        settings |= OWN_CLUSTER
    else:
        found = find_address(address)
        if found is not None and found.loopback:
            settings |= LOOPBACK_ONLY  # otherwise Ray looks for the cluster at this machine's outer address
        configure_client()
    for variable, value in settings.items():
        os.environ.setdefault(variable, value)
    if address is None and os.environ["RAY_AUTH_MODE"] == "token":
        os.environ.setdefault(TOKEN_VARIABLE, secrets.token_hex(32))


def configure_client() -> None:
    """Have Ray send a cluster's token where there is one; what the user has set stands.

    Without one the cluster is taken to want none, which its owner may have chosen. One that does says so.

    Raises:
        RuntimeError: Ray was imported before, when it read its environment.
        ClusterError: the file that the user named cannot be read.
    """
    _before_ray()
    os.environ.setdefault("RAY_AUTH_MODE", "token" if has_token() else "disabled")


def _before_ray() -> None:
    if "ray" in sys.modules and "RAY_AUTH_MODE" not in os.environ:
        raise RuntimeError("call configure_ray() before anything imports Ray: it reads its environment then")


LastWords = Callable[[str], None]


@contextlib.contextmanager
def local_ray(cpus: int | None = None) -> Iterator[LastWords]:
    """Start Ray in this process and on this machine only, and stop it at the end.

    The dashboard stays off, every port listens on the loopback address, and requests need a token that
    only this process and its children know.

    Args:
        cpus: cores that Ray may use; those that this process may use when None.

    Returns:
        As `reaped` does.
    """
    configure_ray()
    import ray

    with reaped() as last_words:
        with callers_signals():
            ray.init(
                address="local",
                num_cpus=cpus or len(os.sched_getaffinity(0)),
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        hush()
        try:
            yield last_words
        finally:
            ray.shutdown()


@contextlib.contextmanager
def reaped() -> Iterator[LastWords]:
    """Have another process end what is left of Ray when the block ends, or this process within it.

    Returns:
        Takes the line that is to be said on standard error where this process ends within the block, such as
        by a signal that cannot be caught, or by Ray; an empty one for none.
    """
    room = str(Path(__file__).resolve().parents[1])
    reaper = subprocess.Popen(
        [sys.executable, "-P", "-m", "cluster.reaper", str(os.getpid())],
        env=os.environ | {"PYTHONPATH": room},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
        text=True,
    )

    def last_words(words: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # it was killed, or the block has ended
            if reaper.stdin is not None:
                print(words, file=reaper.stdin, flush=True)

    try:
        yield last_words
    finally:
        last_words("")
        with contextlib.suppress(subprocess.TimeoutExpired):
            reaper.communicate(timeout=_REAP_SECONDS)


@contextlib.contextmanager
def callers_signals() -> Iterator[None]:
    """Start or join Ray without giving it this process's signals.

    Ray would end this process at SIGTERM, in its own order or with a dump of its stack. And a terminal that
    closes sends SIGHUP to every process that was started from it: Ray's start with it blocked, for they end
    with this one.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    terminated = signal.getsignal(signal.SIGTERM)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, terminated)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def hush() -> None:
    """Log what Ray's services report, such as the last lines of a raylet's log, where Ray would print it.

    Ray writes it to standard output, where a result is expected, and takes no setting against that.
    """
    from ray._private import worker

    def report(data: dict[str, Any], *_: Any, **__: Any) -> None:
        log.info("%s", "\n".join(data["lines"]))

    if hasattr(worker, "print_to_stdstream"):
        worker.print_to_stdstream = report
