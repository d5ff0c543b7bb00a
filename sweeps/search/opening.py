"""Open a sweep's study, which is made from its ledger."""

import json
import os
from collections.abc import Callable, Sequence
from functools import partial

from sweeps.config import SweepConfig
from sweeps.ledger.asked import Asked, has_asked, import_asked, read_asked, write_asked
from sweeps.ledger.ledger import JOURNAL, Ledger
from sweeps.ledger.records import MemberRecord
from sweeps.ledger.storage import Folder
from sweeps.search.journal import Journal, read_trials
from sweeps.search.study import Study, StudyError
from sweeps.tracking.outages import redact

STUDY_VARIABLE = "ARSVD_STUDY"


def refuse_databases(ledger: Ledger | None = None) -> None:
    """Refuse studies in databases, which releases up to 0.1.0 could keep.

    Args:
        ledger: directory of a sweep that continues; None for a new one.

    Raises:
        StudyError: the sweep's study is in a database, or one is requested.
    """
    if ledger is not None and ledger.facts.study != JOURNAL:
        name = ledger.facts.id
        raise StudyError(
            f"the study of sweep {name} is in {redact(ledger.facts.study)}, and studies are no longer kept "
            f"in databases: go on with the sweep in release 0.1.0, or begin a new one. What it has found "
            f"can be used as it is: arsvd show {name}, arsvd sync {name}"
        )
    if ledger is None and os.environ.get(STUDY_VARIABLE, "").strip():
        raise StudyError(
            f"{STUDY_VARIABLE} is set, and studies are no longer kept in databases: unset it; what was asked "
            "for is kept in the sweep's directory, on S3 too"
        )


def open_study(
    ledger: Ledger,
    config: SweepConfig,
    data_hash: str,
    records: Sequence[MemberRecord],
    limit: int,
    note: Callable[[str], None],
) -> Study:
    """Make a sweep's study from the requested members and those on file. The sweep's lock must be held.

    Args:
        ledger: directory of the sweep.
        config: configuration of the sweep.
        data_hash: content hash of the data set.
        records: members on file that are whole.
        limit: bound above every trial number.
        note: function that receives lines about what was damaged, and what was done.

    Raises:
        StudyError: the study is in a database, or a member on file belongs to another sweep.
        NewerError: a file is of a newer version.
        StorageError: the directory cannot be written.
    """
    refuse_databases(ledger)
    facts = ledger.facts
    if facts.version == 1 and not has_asked(ledger) and ledger.storage.exists(JOURNAL):
        import_asked(ledger, _in_journal(ledger, Study(config, data_hash, facts.version), limit, note))
    asked = read_asked(ledger, limit, note)
    study = Study(config, data_hash, facts.version, asked, records, partial(write_asked, ledger))
    if isinstance(ledger.storage, Folder):
        study.show_in(partial(Journal, ledger.storage.path / JOURNAL, facts.id, note=note))
    return study


def _in_journal(ledger: Ledger, study: Study, limit: int, note: Callable[[str], None]) -> list[Asked]:
    """Read what release 0.1.0 asked for from its journal, which was the only place that held it.

    Args:
        ledger: directory of the sweep.
        study: empty study of the same sweep.
        limit: bound above every trial number.
        note: function that receives a line where the journal is damaged; it is then kept beside the new one.
    """
    asked: list[Asked] = []
    content = ledger.storage.read(JOURNAL)
    try:
        trials, notes, lost = read_trials(content, ledger.facts.id)
        found = study.recognised(trials[:limit], notes)
        # samplers' notes are kept as JSON, which cannot hold NaN
        json.dumps([(member.notes, member.study_notes) for member in found], allow_nan=False)
        asked, fault = found, f"its last {lost} lines cannot be read" if lost else None
    except (StudyError, ValueError) as error:
        fault = str(error)
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError) as error:
        # a value of another type, which neither Optuna nor this module expects there
        fault = f"{type(error).__name__}: {error}"
    if fault is not None:
        aside = ledger.set_aside(JOURNAL)
        note(
            f"{ledger.locate(JOURNAL)} is damaged ({fault}): it is set aside as {aside}, and the study goes "
            f"on from the {len(asked)} members that it asked for and the members on file"
        )
    return asked
