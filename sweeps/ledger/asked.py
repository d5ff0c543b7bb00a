"""The members that were asked for: with the members on file, they determine a sweep's study.

A file in `asked/` is written before anybody learns of its member, and stays. Besides the configuration it
holds what the sampler noted, without which a quasi-random sequence or a population would start anew.
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
_IMPORTED = "imported"  # from the journal of an older release


@dataclass(frozen=True)
class Asked:
    """A member that was asked for.

    Attributes:
        number: number of its Optuna trial.
        key: key under which its record is filed.
        config: configuration of its training.
        notes: attributes that the sampler keeps with the trial.
        study_notes: attributes that the sampler keeps with the study, as far as asking has changed them.
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
        StorageError: the file cannot be written.
    """
    _write(ledger, str(member.number), [member])


def import_asked(ledger: Ledger, members: Sequence[Asked]) -> None:
    """File the members that an older release asked for, all or none.

    Raises:
        StorageError: the file cannot be written.
    """
    _write(ledger, _IMPORTED, members)


def has_asked(ledger: Ledger) -> bool:
    """Tell whether any member of a sweep was asked for, or imported."""
    return bool(ledger.storage.files(_FOLDER))


def read_asked(ledger: Ledger, limit: int, note: Callable[[str], None]) -> list[Asked]:
    """Read the members that were asked for, in the order of the trials; set aside damaged files.

    Args:
        ledger: directory of the sweep.
        limit: bound above every trial number.
        note: function that receives a line for each file that was set aside.

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
