"""Before a sweep goes on: what is damaged in its directory is named, set aside and made again."""

from collections.abc import Callable

from sweeps.ledger.ledger import FRONT, PROVENANCE, DamagedError, Ledger
from sweeps.ledger.records import FINISHED, MemberRecord

_SPARE = 10
_FURTHER = 100  # trials a member, where release 0.1.0 told the sampler further points of each


def whole_members(ledger: Ledger, note: Callable[[str], None]) -> list[MemberRecord]:
    """Read the members whose record and weights are whole; set aside what is not.

    A member that lost its record or its weights counts as not trained. All weights are read, since a flipped
    bit shows in the hash only. The sweep's lock must be held.

    Args:
        ledger: the sweep's directory.
        note: callback for a message about each file that was set aside.

    Returns:
        The members, in the order of their trials.

    Raises:
        NewerError: a file is of a newer version; it is whole, and stays.
    """
    limit = most_numbers(ledger)
    found = (_whole(ledger, key, limit, note) for key in ledger.member_keys())
    for name, read in ((FRONT, ledger.front), (PROVENANCE, ledger.provenance)):
        try:
            read()
        except DamagedError as error:
            note(f"{error}; it is set aside as {ledger.set_aside(name)}")
    return sorted((record for record in found if record is not None), key=lambda record: record.number)


def most_numbers(ledger: Ledger) -> int:
    """Return what no member's trial number can reach, however the sweep was extended or cut."""
    members = max(int(ledger.config.search.trials), len(ledger.member_keys()))
    return _SPARE * (members * (_FURTHER if ledger.facts.version == 1 else 1) + 100)


def _whole(ledger: Ledger, key: str, limit: int, note: Callable[[str], None]) -> MemberRecord | None:
    try:
        record = ledger.member(key)
        if record is None:
            return None
        if record.key != key:
            raise DamagedError(f"the record of member {key} is that of {record.key}")
        if record.number >= limit:
            # a study that was lost is made again trial by trial, up to the largest number
            raise DamagedError(f"the record of member {key} has the number {record.number}")
        if record.status == FINISHED:
            with ledger.read_weights(key, record.weights_sha256):
                pass
        return record
    except DamagedError as error:
        places = " and ".join(ledger.set_aside_member(key))
        note(f"{error}; set aside as {places}, and the member is trained again")
        return None
