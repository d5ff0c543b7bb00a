"""Continuing an existing sweep: which changes are allowed, and whether the data is still the same."""

import os
import shlex
from pathlib import Path

from sweeps.config import SweepConfig, config_to_params
from sweeps.ledger.ledger import Ledger
from sweeps.run.places import find_data
from sweeps.run.preparing import Prepared, ResumeError, client_for
from sweeps.tracking.connection import DEFAULT_HOME, HOME_VARIABLE, URI_VARIABLE
from sweeps.tracking.outages import redact

# The place of the images may change: the images themselves show whether they are the same.
_CHANGEABLE = ("search.trials", "resources.", "select.", "dataset.path")


def prepare_resume(
    ledger: Ledger, overrides: tuple[str, ...] = (), data_dir: Path | None = None, force: bool = False
) -> Prepared:
    """Check that a sweep can continue; change nothing yet.

    Args:
        ledger: directory of the sweep.
        overrides: changes of the form `section.key=value`, of keys that a sweep on file may change.
        data_dir: folder that holds the data sets; see `arsvd.data.data_root`.
        force: True to take the lock of a process on another machine.

    Raises:
        ConfigError: a change is faulty.
        ResumeError: a change would mix members of two kinds, or the data is not the same.
        StudyError: the sweep's study is in a database.
        DataError: the data is missing, broken or too small.
        NameTakenError: the data set's name stands for other data in the registry.
        TrackingError: the tracking server does not answer.
    """
    # imported here since other commands need no Optuna
    from sweeps.search.opening import refuse_databases

    refuse_databases(ledger)
    config = ledger.changed_config(overrides)
    refuse_changes(ledger.begun_config, config)  # also changes in the file, which somebody may have edited
    dataset, place = find_data(ledger, config, data_dir)
    facts = ledger.facts
    if dataset.hash != facts.data_hash:
        raise ResumeError(
            f"the data set {dataset.name} in {place.folder or place.root} has the content hash "
            f"{dataset.hash[:12]}…, sweep {facts.id} was run on {facts.data_hash[:12]}…: give it the same "
            f"files ({'dataset.path=FOLDER' if place.folder else '--data-dir'}), or begin a new sweep"
        )
    return Prepared(config, dataset, ledger.home, client_for(dataset), ledger, force, place)


def resume_line(ledger: Ledger, address: str | None = None) -> str:
    """Return the command that continues a sweep, to be pasted into any shell on this machine and folder.

    Args:
        ledger: directory of the sweep.
        address: address of the Ray cluster that ran it, as in `--address`; None for this process's own.
    """
    settings = {}
    if ledger.home != Path(DEFAULT_HOME).absolute():
        settings[HOME_VARIABLE] = str(ledger.home)
    server = os.environ.get(URI_VARIABLE, "").strip()
    if redact(server) == server:  # a password is not printed; whoever set one knows it
        settings[URI_VARIABLE] = server
    words = [f"{name}={shlex.quote(value)}" for name, value in settings.items() if value]
    words += ["arsvd", "resume", ledger.facts.id]
    return " ".join(words + (["--address", shlex.quote(address)] if address else []))


def refuse_changes(old: SweepConfig, new: SweepConfig) -> None:
    """Refuse changes that members on file, or the study, would not fit.

    Raises:
        ResumeError: there are such changes; all are named.
    """
    before, after = config_to_params(old), config_to_params(new)
    changed = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    refused = sorted(key for key in changed if not key.startswith(_CHANGEABLE))
    if refused:
        raise ResumeError(
            f"{', '.join(refused)} cannot be changed in a sweep that exists: its members were trained and "
            "chosen with the old value. search.trials, resources.* and select.* can be; for others begin anew"
        )
