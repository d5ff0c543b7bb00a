"""The journal of an Optuna study, and what to do where a line of it is damaged.

Optuna reads a journal line by line. A last line that was cut is passed over, and the next line is appended to
the half of it; from then on reading fails for ever. A line in the middle cannot be left out, since trials get
their numbers from the order of the lines. So a damaged journal is cut before its first bad line: what is
before it holds, and what came after is brought back from the members on file (`Study.catch_up`).
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from optuna.trial import TrialState

from sweeps.ledger import JOURNAL, Ledger
from sweeps.search.study import KEY

_LOCK_SUFFIX = ".lock"
# operations of the journal's format, which is kept for good: newer releases read what older ones wrote
_CREATE_STUDY, _CREATE_TRIAL, _SET_STATE, _SET_USER_ATTR = 0, 4, 6, 8
_ENDED = [int(state) for state in TrialState if state.is_finished()]


def mend_journal(ledger: Ledger) -> str | None:
    """Cut a sweep's journal before its first damaged line; the whole is set aside.

    The sweep's lock must be held.

    Args:
        ledger: the sweep's directory.

    Returns:
        What was found and done, None where the journal is whole.
    """
    path = ledger.journal
    # left by a process that was killed while it wrote; Optuna would wait 30 s for it
    Path(f"{path}{_LOCK_SUFFIX}").unlink(missing_ok=True)
    if not path.exists():
        return None
    lines = ledger.storage.read(JOURNAL).splitlines(keepends=True)
    operations = _operations(lines)
    if operations and operations[0]["op_code"] != _CREATE_STUDY:
        operations = []  # Optuna passes over what belongs to no study
    if len(operations) == len(lines):
        return None
    kept = _begun(operations)
    aside = ledger.storage.set_aside(JOURNAL)
    ledger.storage.write(JOURNAL, b"".join(lines[:kept]))
    return (
        f"line {len(operations) + 1} of {len(lines)} of {path} is damaged: the journal is set aside as "
        f"{ledger.locate(aside)}, and the study goes on from its first {kept} lines and the members on file"
    )


def drop_journal(ledger: Ledger, reason: str) -> str:
    """Set a whole journal aside, where its lines can be read and make no sense; return what was done."""
    aside = ledger.storage.set_aside(JOURNAL)
    return (
        f"{ledger.locate(JOURNAL)} is damaged ({reason}): it is set aside as {ledger.locate(aside)}, "
        "and the study is made again from the members on file"
    )


def _operations(lines: Sequence[bytes]) -> list[dict[str, Any]]:
    """Read lines up to the first damaged one."""
    found = []
    for line in lines:
        operation = _operation(line)
        if operation is None:
            break
        found.append(operation)
    return found


def _operation(line: bytes) -> dict[str, Any] | None:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):  # the second where it is nested too deeply
        return None
    whole = line.endswith(b"\n") and isinstance(values, dict) and {"op_code", "worker_id"} <= values.keys()
    return values if whole else None


def _begun(operations: Sequence[dict[str, Any]]) -> int:
    """Return how many lines to keep, so that no trial is cut between its creation and its key."""
    trials = 0
    open_since: dict[int, int] = {}  # trial to the line that created it
    for line, operation in enumerate(operations):
        code = operation["op_code"]
        if code == _CREATE_TRIAL:
            if operation.get("state") not in _ENDED and KEY not in operation.get("user_attrs", {}):
                open_since[trials] = line
            trials += 1
        attributes = operation.get("user_attr")
        named = code == _SET_USER_ATTR and isinstance(attributes, dict) and KEY in attributes
        trial = operation.get("trial_id")
        if isinstance(trial, int) and (named or (code == _SET_STATE and operation.get("state") in _ENDED)):
            open_since.pop(trial, None)
    return min(open_since.values(), default=len(operations))
