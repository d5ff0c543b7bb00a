"""The ledger: a sweep's directory, from which everything else can be rebuilt.

    HOME/sweeps/<sweep id>/
        sweep.yaml             the checked configuration
        begun.yaml             the configuration when the sweep began, to tell what was changed since
        sweep.json             id, data set, content hash, start time
        provenance.json        what first ran it: versions, commit, machine
        sweep.lock             who runs the sweep now; see `sweeps.ledger.lock`
        asked/<number>.json    a member that was asked for, and what the sampler noted
        members/<key>.json     one record per member
        members/<key>.safetensors   its weights, spectra and recovered points
        members/<key>.checkpoint.safetensors   a member in training
        front.json             the final front, with test figures
        front-so-far.json      the front of a sweep that was interrupted or is being extended
        best-so-far.json       what the trials of a running sweep must beat; see `sweeps.ledger.best_so_far`
        report/                front.csv, baselines.csv, front.png, front.html
        study.journal          a copy of the Optuna study for optuna-dashboard, on a folder only; never read

HOME is a folder, or s3://bucket/prefix. Every file is written by atomic replace, so a reader never sees half
of one. A file that is damaged nevertheless is set aside as NAME.damaged when the sweep is resumed.
"""

import contextlib
import datetime
import hashlib
import json
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError

from arsvd.data import Dataset
from arsvd.json_fields import read_json
from sweeps.config import ConfigError, SweepConfig, dump_config, load_config
from sweeps.ledger.records import JOURNAL as JOURNAL
from sweeps.ledger.records import Front, MemberRecord, NewerVersionError, SweepFacts, check_version
from sweeps.ledger.storage import Folder, Storage, StorageError, file_sha256, open_storage, scratch_folder

T = TypeVar("T")

PROVENANCE = "provenance.json"
FRONT, FRONT_SO_FAR, BEST_SO_FAR = "front.json", "front-so-far.json", "best-so-far.json"
_CONFIG, _BEGUN, _FACTS = "sweep.yaml", "begun.yaml", "sweep.json"
_RECORD, _WEIGHTS, _CHECKPOINT = ".json", ".safetensors", ".checkpoint.safetensors"


class LedgerError(ValueError):
    """A sweep directory does not exist, or a file in it cannot be read."""


class DamagedError(LedgerError):
    """A file of a sweep is missing or not whole."""


class NewerError(LedgerError):
    """A file is whole, but of a newer version, which this release cannot read."""


class Ledger:
    """One sweep's directory.

    A file that cannot be written or reached raises `StorageError`; one that is read and is not whole raises
    `DamagedError`, and one of a newer release raises `NewerError`.

    Args:
        location: existing directory of the sweep: a folder, or s3://bucket/prefix.
    """

    def __init__(self, location: Path | str) -> None:
        self.storage: Storage = open_storage(location)

    @classmethod
    def create(
        cls,
        home: Path | str,
        config: SweepConfig,
        dataset: Dataset,
        reference: tuple[int, int],
    ) -> "Ledger":
        """Make the directory of a new sweep, with its configuration in it.

        Args:
            home: folder, or s3://bucket/prefix, that holds the sweeps.
            config: configuration of the sweep.
            dataset: data set of the sweep.
            reference: parameters and MACs of the reference model.
        """
        now = datetime.datetime.now(datetime.UTC)
        sweep_id = f"{_name(config, dataset)}-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
        ledger = cls.at(home, sweep_id)
        if isinstance(ledger.storage, Folder):
            for folder in ("members", "report"):
                (ledger.path / folder).mkdir(parents=True)
        ledger.write_config(config)
        ledger.storage.write(_BEGUN, dump_config(config).encode())
        facts = SweepFacts(
            id=sweep_id,
            dataset=dataset.name,
            data_hash=dataset.hash,
            reference=reference,
            validation_images=len(dataset.validation),
            began=f"{now:%Y-%m-%dT%H:%M:%SZ}",
        )
        # last: a directory counts as a sweep from here on
        ledger.write(_FACTS, facts.to_dict())
        return ledger

    @classmethod
    def at(cls, home: Path | str, sweep_id: str) -> "Ledger":
        """Return the ledger of a sweep, whether or not the sweep exists."""
        inside = home / "sweeps" / sweep_id if isinstance(home, Path) else f"{home}/sweeps/{sweep_id}"
        return cls(inside)

    @classmethod
    def open(cls, home: Path | str, sweep_id: str) -> "Ledger":
        """Open a sweep by its id, or by the start of its id where no other id starts so.

        Raises:
            LedgerError: there is no such sweep, or there are several.
        """
        known = sweep_ids(home)
        found = [sweep_id] if sweep_id in known else [name for name in known if name.startswith(sweep_id)]
        if len(found) == 1 and sweep_id:
            return cls.at(home, found[0])
        if len(found) > 1 and sweep_id:
            raise LedgerError(f"several sweeps begin with {sweep_id!r}: {', '.join(found)}")
        listed = ", ".join(known[-5:]) if known else "none yet"
        where = open_storage(home).locate("sweeps")
        raise LedgerError(f"there is no sweep {sweep_id!r} under {where}; the latest are: {listed}")

    @property
    def location(self) -> str:
        """The directory's path or address, which opens it again."""
        return self.storage.locate()

    @property
    def home(self) -> Path | str:
        """The home that holds this sweep and others."""
        return (
            self.path.parent.parent if isinstance(self.storage, Folder) else self.location.rsplit("/", 2)[0]
        )

    @property
    def path(self) -> Path:
        """The directory as a folder of this machine.

        Raises:
            LedgerError: the directory is not a folder of this machine.
        """
        if not isinstance(self.storage, Folder):
            raise LedgerError(f"{self.location} is not a folder of this machine")
        return self.storage.path

    def locate(self, name: str) -> str:
        """Return a file's path or address, for people."""
        return self.storage.locate(name)

    @property
    def facts(self) -> SweepFacts:
        """What identifies the sweep."""
        return self.read(_FACTS, SweepFacts.from_dict)

    @property
    def config(self) -> SweepConfig:
        """The sweep's configuration."""
        return self.changed_config(())

    @property
    def begun_config(self) -> SweepConfig:
        """The configuration when the sweep began; the present one where an earlier version kept none."""
        return self._read_config(_BEGUN if self.storage.exists(_BEGUN) else _CONFIG, ())

    def changed_config(self, overrides: tuple[str, ...]) -> SweepConfig:
        """Return the sweep's configuration with changes `section.key=value`; the file stays as it is.

        Raises:
            ConfigError: the file or a change is faulty.
            DamagedError: the file is missing.
        """
        return self._read_config(_CONFIG, overrides)

    def write_config(self, config: SweepConfig) -> None:
        """File the sweep's configuration."""
        self.storage.write(_CONFIG, dump_config(config).encode())

    def _read_config(self, name: str, overrides: tuple[str, ...]) -> SweepConfig:
        try:
            with self.storage.local(name) as path:
                if os.path.exists(path) and not os.path.isfile(path):
                    raise DamagedError(f"{self.locate(name)} is damaged: it is no file")
                return load_config(path, overrides, on_record=True)
        except FileNotFoundError as error:
            raise DamagedError(f"{self.locate(name)} is missing") from error
        except ConfigError as error:
            # a file of a newer release has keys that are unknown here, and then the release is the error
            self._read_if_there(_FACTS, partial(check_version, what="sweep"))
            changes = " with its overrides" if overrides else ""
            raise ConfigError(f"sweep file '{self.locate(name)}'{changes}", error.faults) from None

    @contextlib.contextmanager
    def new_report(self) -> Iterator[Path]:
        """Yield a folder of this machine to write the report into; it is copied to the ledger at the end."""
        with scratch_folder() as scratch:
            try:
                yield scratch
            except OSError as error:
                raise StorageError(f"cannot write the report in {scratch}: {error}") from error
            for path in scratch.iterdir():
                self.storage.write(f"report/{path.name}", path.read_bytes())

    def weights(self, key: str) -> Path:
        """Return the path of a member's weights, in a folder of this machine."""
        return self.path / _member(key, _WEIGHTS)

    def write_weights(self, key: str, write: Callable[[Path], None]) -> str:
        """File a member's weights.

        Args:
            key: key of the member.
            write: function that writes the weights to a given path, by atomic replace.

        Returns:
            The SHA-256 of the file, for the member's record.
        """
        with scratch_folder() as scratch:
            path = scratch / f"{key}{_WEIGHTS}"
            try:
                write(path)
                content = path.read_bytes()
            except (OSError, SafetensorError) as error:
                raise StorageError(f"cannot write {path}: {error}") from error
        self.storage.write(_member(key, _WEIGHTS), content)
        return hashlib.sha256(content).hexdigest()

    @contextlib.contextmanager
    def read_weights(self, key: str, sha256: str) -> Iterator[Path]:
        """Yield a file with a member's weights, after checking its hash.

        Raises:
            DamagedError: the weights are missing, or are not those that were filed.
        """
        name = _member(key, _WEIGHTS)
        if not self.storage.exists(name):
            raise DamagedError(f"{self.locate(name)} is missing: the member's weights are gone")
        with self.storage.local(name) as path:
            if file_sha256(path) != sha256:
                raise DamagedError(
                    f"{self.locate(name)} is damaged: its SHA-256 is not the one in the member's record"
                )
            yield path

    def write_checkpoint(self, key: str, content: bytes) -> None:
        """File a checkpoint of a member in training; an earlier one is replaced."""
        self.storage.write(_member(key, _CHECKPOINT), content)

    def read_checkpoint(self, key: str) -> bytes | None:
        """Return the latest checkpoint of a member in training; None where there is none."""
        try:
            return self.storage.read(_member(key, _CHECKPOINT))
        except FileNotFoundError:
            return None

    def drop_checkpoint(self, key: str) -> None:
        """Remove a member's checkpoint, if there is one."""
        self.storage.remove(_member(key, _CHECKPOINT))

    def write_member(self, record: MemberRecord) -> None:
        """File a member's record; from then on the member counts as done."""
        self.write(_member(record.key, _RECORD), record.to_dict())

    def member(self, key: str) -> MemberRecord | None:
        """Read a member's record; None where there is none.

        Raises:
            DamagedError: the record is damaged.
        """
        return self._read_if_there(_member(key, _RECORD), MemberRecord.from_dict)

    def member_keys(self) -> list[str]:
        """List the keys of the members on file."""
        files = self.storage.files("members")
        return [name.removesuffix(_RECORD) for name in files if name.endswith(_RECORD)]

    def members(self) -> list[MemberRecord]:
        """Read all records, in the order of the trials.

        Raises:
            DamagedError: a record is damaged.
        """
        records = [record for key in self.member_keys() if (record := self.member(key)) is not None]
        return sorted(records, key=lambda record: record.number)

    def set_aside(self, name: str) -> str:
        """Rename a damaged file, and return its new place."""
        return self.locate(self.storage.set_aside(name))

    def set_aside_member(self, key: str) -> list[str]:
        """Rename a member's record and weights, so that it counts as not trained; return the new places."""
        # the record first: a member without one is trained again, whatever else is there
        names = (_member(key, _RECORD), _member(key, _WEIGHTS))
        return [self.set_aside(name) for name in names if self.storage.exists(name)]

    def write_front(self, front: Front, final: bool = True) -> None:
        """File the final front, or the front so far."""
        self.write(FRONT if final else FRONT_SO_FAR, front.to_dict())
        if final:
            for name in (FRONT_SO_FAR, BEST_SO_FAR):
                self.storage.remove(name)

    def reopen(self) -> None:
        """Make the final front the front so far, since more members will come."""
        if self.storage.exists(FRONT):
            self.storage.rename(FRONT, FRONT_SO_FAR)

    def front(self) -> Front | None:
        """Read the final front; None where the sweep has not ended.

        Raises:
            DamagedError: the file is damaged.
        """
        return self._read_if_there(FRONT, Front.from_dict)

    def write_provenance(self, tags: Mapping[str, str]) -> None:
        """File what first ran the sweep: versions, commit, machine."""
        self.write(PROVENANCE, tags)

    def provenance(self) -> dict[str, str] | None:
        """Return what first ran the sweep; None where that is not on file.

        Raises:
            DamagedError: the file is damaged.
        """
        return self._read_if_there(PROVENANCE, _tags)

    def write(self, name: str, values: Mapping[str, Any]) -> None:
        """Write a JSON file."""
        self.storage.write(name, json.dumps(values, allow_nan=False, separators=(",", ":")).encode())

    def read(self, name: str, build: Callable[[Any], T]) -> T:
        """Read a JSON file.

        Args:
            name: name of the file, below the directory.
            build: function that makes a record from the JSON values, or raises ValueError.

        Raises:
            NewerError: the file is of a newer version.
            DamagedError: the file is missing or damaged.
        """
        found = self._read_if_there(name, build)
        if found is None:
            raise DamagedError(f"{self.locate(name)} is missing")
        return found

    def _read_if_there(self, name: str, build: Callable[[Any], T]) -> T | None:
        """Read a JSON file; None where there is no such file."""
        try:
            return build(read_json(self.storage.read(name)))
        except FileNotFoundError:
            return None
        except NewerVersionError as error:
            raise NewerError(f"{self.locate(name)} is {error}") from error
        except ValueError as error:  # not JSON, not UTF-8, no version, not a whole record
            raise DamagedError(f"{self.locate(name)} is damaged: {error}") from error


def sweep_ids(home: Path | str) -> list[str]:
    """List the sweeps of a home, oldest first."""
    storage = open_storage(home)
    begun = {}
    for name in storage.folders("sweeps"):
        with contextlib.suppress(FileNotFoundError):  # a directory without the file was never a sweep
            try:
                begun[name] = storage.modified(f"sweeps/{name}/sweep.json")
            except StorageError:  # the sweep is listed anyway, found damaged when opened, and hides no other
                begun[name] = 0.0
    return sorted(begun, key=lambda name: begun[name])


def _name(config: SweepConfig, dataset: Dataset) -> str:
    """Choose the start of a sweep's id: its own name, or the data set's name in characters that ids allow."""
    plain = re.sub(r"[^a-z0-9]+", "-", dataset.name.lower()).strip("-")
    return config.name or plain or config.dataset.name


def _tags(values: Any) -> dict[str, str]:
    if not isinstance(values, Mapping):
        raise ValueError("not a mapping")
    return {key: str(value) for key, value in values.items()}


def _member(key: str, suffix: str) -> str:
    return f"members/{key}{suffix}"
