"""The current front of a sweep: the final one, or that of the members on file so far."""

from sweeps.ledger.joined_front import sweep_front
from sweeps.ledger.ledger import Ledger, LedgerError
from sweeps.ledger.records import FINISHED, Front


def standing_front(ledger: Ledger) -> tuple[Front, bool]:
    """Return a sweep's front, and True if it is final.

    A front that is not final has no test figures: they are measured once, at the end.

    Raises:
        LedgerError: a file of the sweep is damaged.
    """
    final = ledger.front()
    if final is not None:
        return final, True
    facts = ledger.facts
    records = [record for record in ledger.members() if record.status == FINISHED]
    return sweep_front(
        records, facts.reference, ledger.config.select.max_drop, facts.validation_images
    ), False


def find_damage(ledger: Ledger) -> list[LedgerError]:
    """Find what cannot be read: records, and the weights of the members on the final front.

    Nothing is changed. Files that a newer release wrote are included, as a `NewerError`.

    Only a resume reads all weights, since they may be many, and stored elsewhere.
    """
    found: list[LedgerError] = []
    final = ledger.front()
    shown = set() if final is None else {entry.key for entry in final.points}
    for key in ledger.member_keys():
        try:
            record = ledger.member(key)
            if record is not None and key in shown:
                with ledger.read_weights(key, record.weights_sha256):
                    pass
        except LedgerError as error:
            found.append(error)
    return found
