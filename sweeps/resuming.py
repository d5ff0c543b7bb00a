"""A sweep that exists goes on: which changes it takes, and whether the data is still the same."""

from pathlib import Path

from sweeps.config import SweepConfig, config_to_params
from sweeps.dataset import load_dataset
from sweeps.ledger import Ledger
from sweeps.preparing import Prepared, ResumeError, connect_for

_CHANGEABLE = ("search.trials", "resources.", "select.")


def prepare_resume(
    ledger: Ledger, overrides: tuple[str, ...] = (), data_dir: Path | None = None, force: bool = False
) -> Prepared:
    """Check that a sweep can go on; change nothing yet.

    Args:
        ledger: the sweep's directory.
        overrides: `section.key=value` each, of the keys that a sweep on file may change.
        data_dir: where data sets lie; see `arsvd.data.data_root`.
        force: take the lock of a process on another machine.

    Raises:
        ConfigError: a change is faulty.
        ResumeError: a change would mix members of two kinds, or the data is not the same.
        DataError: the data is missing, broken or too small.
        TrackingError: the tracking server does not answer.
    """
    config = ledger.changed_config(overrides)
    refuse_changes(ledger.begun_config, config)  # in the file as well, which somebody may have edited
    dataset = load_dataset(config, data_dir)
    facts = ledger.facts
    if dataset.hash != facts.data_hash:
        raise ResumeError(
            f"the data set {dataset.name} has the content hash {dataset.hash[:12]}…, sweep {facts.id} was "
            f"run on {facts.data_hash[:12]}…: give it the same files (--data-dir), or begin a new sweep"
        )
    return Prepared(config, dataset, ledger.home, connect_for(dataset.name), ledger, force)


def refuse_changes(old: SweepConfig, new: SweepConfig) -> None:
    """Refuse changes that members on file, or the study, would not fit.

    Raises:
        ResumeError: there is one; every one is named.
    """
    before, after = config_to_params(old), config_to_params(new)
    changed = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    refused = sorted(key for key in changed if not key.startswith(_CHANGEABLE))
    if refused:
        raise ResumeError(
            f"{', '.join(refused)} cannot be changed in a sweep that exists: its members were trained and "
            "chosen with the old value. search.trials, resources.* and select.* can be; for others begin anew"
        )
