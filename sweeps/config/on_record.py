"""What outlives a release: the version of records, what a missing key means in files, and keys that are gone.

What is meant by a file without a key, written before there was such a key, is its option's `absent`. That is
not the default: a new sweep file may mean something else by leaving a key out, and the default may change.
"""

from collections.abc import Mapping
from typing import Any

from arsvd.candidates import CANDIDATES
from sweeps.config.options import options

# of all that this release writes into a sweep's directory; it is raised here and nowhere else
RECORD_VERSION = 2

# key: what whoever still writes it is told; files on record lose it
RETIRED = {
    "search.inject": "this key is gone, since further points of a member misled the sampler",
}
# key: names that its list may hold on file and that are gone
RETIRED_NAMES = {"compression.families": CANDIDATES.retired}


def settle(mapping: dict[str, Any]) -> None:
    """Make a sweep file on record say what it meant, whichever release wrote it.

    Args:
        mapping: What the file holds, by section; absent keys are put in, and those that are gone removed.
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
    """Take names that are gone out of a list; the key goes with the last one."""
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
