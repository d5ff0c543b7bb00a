"""What was asked for: the part of the ledger that, with the members on file, a sweep's study is made from.

A file in `asked/` is written before anybody hears of its member, and stays. Beside the configuration it holds
what the sampler noted, without which a quasi-random sequence or a population would begin anew.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from arsvd.json_fields import Size, read_fields
from sweeps.config import MemberConfig
from sweeps.config.on_record import RECORD_VERSION
from sweeps.ledger.ledger import DamagedError, Ledger
from sweeps.ledger.records import without_version

_FOLDER = "asked"
_IMPORTED = "imported"  # what the journal of an older release had


@dataclass(frozen=True)
class Asked:
    """A member that was asked for.

    Attributes:
        number: its Optuna trial number.
        key: what its record is filed under.
        config: how it is to be trained.
        notes: what the sampler keeps with the trial.
        study_notes: what the sampler keeps with the study, as far as asking has changed it.
    """

    number: Size
    key: str
    config: MemberConfig
    notes: dict[str, Any] = field(default_factory=dict)
    study_notes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _File:
    members: tuple[Asked, ...]


def write_asked(ledger: Ledger, member: Asked) -> None:
    """File a member that was asked for.

    Raises:
        StorageError: it cannot be written.
    """
    _write(ledger, str(member.number), [member])


def import_asked(ledger: Ledger, members: Sequence[Asked]) -> None:
    """File the members that an older release asked for, all or none.

    Raises:
        StorageError: they cannot be written.
    """
    _write(ledger, _IMPORTED, members)


def has_asked(ledger: Ledger) -> bool:
    """Tell whether anything was asked for in a sweep, or imported."""
    return bool(ledger.storage.files(_FOLDER))


def read_asked(ledger: Ledger, limit: int, note: Callable[[str], None]) -> list[Asked]:
    """Read what was asked for, in the order of the trials; set aside what is not whole.

    Args:
        ledger: the sweep's directory.
        limit: what every trial number is below.
        note: is told of each file that was set aside.

    Raises:
        NewerError: a file is of a newer version; it is whole, and stays.
    """
    facts = ledger.facts
    found: list[Asked] = []
    for name in ledger.storage.files(_FOLDER):
        if not name.endswith(".json"):
            continue  # one that was set aside
        place = f"{_FOLDER}/{name}"
        try:
            members = ledger.read(place, _members)
            for member in members:
                key = member.config.key(facts.data_hash, facts.version)
                if member.number >= limit or member.key != key:
                    raise DamagedError(
                        f"{ledger.locate(place)} is damaged: no member of this sweep has the number "
                        f"{member.number} and the key {member.key}"
                    )
            found += members
        except DamagedError as error:
            aside = ledger.set_aside(place)
            note(f"{error}; it is set aside as {aside}, and what it asked for is known from its record alone")
    return sorted(found, key=lambda member: member.number)


def _members(values: Mapping[str, Any]) -> tuple[Asked, ...]:
    return read_fields(_File, without_version(values, "file of asked members"), "not a whole file").members


def _write(ledger: Ledger, name: str, members: Sequence[Asked]) -> None:
    listed = [asdict(member) | {"config": member.config.to_dict()} for member in members]
    ledger.write(f"{_FOLDER}/{name}.json", {"version": RECORD_VERSION, "members": listed})
