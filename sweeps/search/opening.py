"""Where the study of a sweep is: the journal in its directory, or a database."""

import os

from sweeps.config import SweepConfig
from sweeps.ledger import JOURNAL, Ledger
from sweeps.search.study import Study, StudyError
from sweeps.storage import Folder, open_storage
from sweeps.tracking.failures import redact

# A variable and no key of the sweep file: a database's address holds a password, and the file is copied into
# the ledger, MLflow and reports.
STUDY_VARIABLE = "ARSVD_STUDY"
_DATABASES = ("postgresql", "mysql")


def study_place(home: object) -> str:
    """Choose where the study of a new sweep goes, as the ledger notes it: without credentials.

    Args:
        home: where sweeps are kept, a path or s3://bucket/prefix.

    Raises:
        StudyError: `ARSVD_STUDY` is no database's address, or it is missing and needed.
    """
    url = os.environ.get(STUDY_VARIABLE, "").strip()
    if url:
        if url.split(":", 1)[0].split("+")[0] not in _DATABASES:
            raise StudyError(
                f"{STUDY_VARIABLE} must be a database's address, postgresql:// or mysql://, "
                f"got one of the kind {url.split(':', 1)[0][:20]!r}"
            )
        return redact(url)
    if not isinstance(open_storage(home if isinstance(home, str) else str(home)), Folder):
        raise StudyError(
            f"the study's journal is a file that grows, which {home} cannot hold: "
            f"set {STUDY_VARIABLE} to a database, such as postgresql://user:password@host/database"
        )
    return JOURNAL


def in_journal(ledger: Ledger) -> bool:
    """Tell whether a sweep's study is in the journal of its directory."""
    return ledger.facts.study == JOURNAL


def open_study(ledger: Ledger, config: SweepConfig, data_hash: str) -> Study:
    """Open a sweep's study, or begin it.

    Args:
        ledger: the sweep's directory, which says where the study is.
        config: the sweep file.
        data_hash: the data set's content hash.

    Raises:
        StudyError: the study cannot be opened, or `ARSVD_STUDY` names another database.
        StorageError: the journal cannot be written.
    """
    facts = ledger.facts
    if facts.study == JOURNAL:
        return Study.in_journal(ledger.journal, facts.id, config, data_hash, facts.version)
    url = os.environ.get(STUDY_VARIABLE, "").strip()
    if redact(url) != facts.study:
        raise StudyError(
            f"the study of sweep {facts.id} is in {facts.study}: set {STUDY_VARIABLE} to that database"
            + (f", it names {redact(url)}" if url else "")
        )
    return Study.in_database(url, facts.id, config, data_hash, facts.version)
