"""From errors to messages and exit statuses: 2 for bad input, 1 for anything else, 130 for Ctrl-C."""

import contextlib
import functools
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import click

BAD_INPUT, FAILURE, INTERRUPTED = 2, 1, 130
# By name, since importing the classes would load every package for the shortest command.
_STATUSES = {
    "ClusterError": BAD_INPUT,
    "ConfigError": BAD_INPUT,
    "DataError": BAD_INPUT,
    "InputError": BAD_INPUT,
    "LedgerError": BAD_INPUT,
    "LocationError": BAD_INPUT,
    "LockedError": BAD_INPUT,
    "NoModelError": BAD_INPUT,
    "ResourcesError": BAD_INPUT,
    "ResumeError": BAD_INPUT,
    "SettingError": BAD_INPUT,
    "SharedStorageError": BAD_INPUT,
    "StudyError": BAD_INPUT,
    "TrackingError": BAD_INPUT,
    "JobFailedError": FAILURE,
    "NotPublishedError": FAILURE,
    "ServerError": FAILURE,
    "StorageError": FAILURE,
    "SweepFailedError": FAILURE,
    "SweepStoppedError": INTERRUPTED,
}


def reports_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Turn errors that a user can fix into one message and exit status 2."""

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
    statuses = [_STATUSES[kind.__name__] for kind in type(error).__mro__ if kind.__name__ in _STATUSES]
    return statuses[0] if statuses else None


def _stop(message: str, status: int) -> None:
    with contextlib.suppress(OSError):  # the terminal may be gone, which is why the command ends
        click.echo(f"arsvd: {message}", err=True)
    sys.exit(status)


def leave(error: Exception) -> NoReturn:
    """End this process with an error's message and status, without waiting for anything in progress."""
    with contextlib.suppress(OSError):
        click.echo(f"arsvd: {error}", err=True)
        sys.stdout.flush()
    os._exit(FAILURE if (status := _status(error)) is None else status)


class InputError(ValueError):
    """An argument that cannot be used; the message says why."""
