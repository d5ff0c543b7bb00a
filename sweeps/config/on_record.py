"""What outlives a release: the version of records, the meaning of missing keys in files, and removed keys.

A file that was written before a key existed means the option's `absent` by it. That is not the default: a new
sweep file may mean something else by leaving a key out, and the default may change.
"""

from collections.abc import Mapping
from typing import Any

from arsvd.candidates import CANDIDATES
from sweeps.config.options import options

# of everything that this release writes into a sweep's directory; it is raised here and nowhere else
RECORD_VERSION = 2

# removed keys, with advice for those who still write them; files on record lose them
RETIRED = {
    "search.inject": "this key is gone, since further points of a member misled the sampler",
}
# keys, with removed names that their lists may hold on file
RETIRED_NAMES = {"compression.families": CANDIDATES.retired}


def settle(mapping: dict[str, Any]) -> None:
    """Complete a sweep file on record with what it meant, whichever release wrote it.

    Args:
        mapping: content of the file, by section; absent keys are added, and keys that no longer exist
            removed.
    """
    for key in RETIRED:
        if (section := _section(mapping, key)) is not None:
            section.pop(key.rpartition(".")[2], None)
    for key, names in RETIRED_NAMES.items():
        if (section := _section(mapping, key)) is not None:
            _drop(section, key.rpartition(".")[2], names)
    for key, option in options().items():
        if not option.always and (section := _section(mapping, key)) is not None:
            section.setdefault(option.name, option.absent)


def _drop(section: dict[str, Any], name: str, retired: Mapping[str, str]) -> None:
    """Remove names that no longer exist from a list; the key goes with the last one."""
    listed = section.get(name)
    if isinstance(listed, list) and any(isinstance(one, str) and one in retired for one in listed):
        section[name] = [one for one in listed if one not in retired]
        if not section[name]:
            del section[name]


def _section(mapping: dict[str, Any], key: str) -> dict[str, Any] | None:
    """Return the section that a dotted key belongs to; None where there is something else."""
    section: Any = mapping
    for parent in key.split(".")[:-1]:
        section = section.setdefault(parent, {}) if isinstance(section, dict) else None
    return section if isinstance(section, dict) else None
