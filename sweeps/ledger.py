"""The ledger: a sweep's directory, from which everything else can be rebuilt.

    HOME/sweeps/<sweep id>/
        sweep.yaml             the checked configuration
        sweep.json             id, data set, content hash, when it began
        study.journal          the Optuna study
        members/<key>.json     one record a member
        members/<key>.safetensors   its weights, spectra and recovered points
        front.json             the final front, with test figures
        report/                front.csv, baselines.csv, front.png, front.html

Every file is written by atomic replace, so a reader never meets half of one.
"""

import datetime
import hashlib
import json
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from arsvd.data import Dataset
from sweeps.config import SweepConfig, dump_config, load_config
from sweeps.records import RECORD_VERSION, Front, MemberRecord, check_version, write_json


class LedgerError(ValueError):
    """A sweep directory is not there, or a file in it is damaged."""


@dataclass(frozen=True)
class SweepFacts:
    """What identifies a sweep.

    Attributes:
        id: its name, the time of its start and a random part.
        dataset: the data set's name.
        data_hash: the data set's content hash.
        reference: parameters and MACs of the reference model.
        validation_images: images that choices are made on.
        began: ISO 8601 time in UTC.
    """

    id: str
    dataset: str
    data_hash: str
    reference: tuple[int, int]
    validation_images: int
    began: str


class Ledger:
    """One sweep's directory.

    Args:
        path: the directory, which exists.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(
        cls, home: Path, config: SweepConfig, dataset: Dataset, reference: tuple[int, int]
    ) -> "Ledger":
        """Make the directory of a new sweep, with its configuration in it.

        Args:
            home: where sweeps are kept.
            config: the sweep file.
            dataset: the data set.
            reference: parameters and MACs of the reference model.
        """
        now = datetime.datetime.now(datetime.UTC)
        sweep_id = f"{config.name or dataset.name}-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
        path = home / "sweeps" / sweep_id
        (path / "members").mkdir(parents=True)
        (path / "report").mkdir()
        ledger = cls(path)
        (path / "sweep.yaml").write_text(dump_config(config), encoding="utf-8")
        facts = SweepFacts(
            id=sweep_id,
            dataset=dataset.name,
            data_hash=dataset.hash,
            reference=reference,
            validation_images=len(dataset.validation),
            began=f"{now:%Y-%m-%dT%H:%M:%SZ}",
        )
        write_json(path / "sweep.json", {"version": RECORD_VERSION, **asdict(facts)})
        return ledger

    @classmethod
    def open(cls, home: Path, sweep_id: str) -> "Ledger":
        """Open a sweep by its id, or by a beginning of it that fits no other.

        Raises:
            LedgerError: there is no such sweep, or several.
        """
        known = sweep_ids(home)
        found = [sweep_id] if sweep_id in known else [name for name in known if name.startswith(sweep_id)]
        if len(found) == 1 and sweep_id:
            return cls(home / "sweeps" / found[0])
        if len(found) > 1 and sweep_id:
            raise LedgerError(f"several sweeps begin with {sweep_id!r}: {', '.join(found)}")
        listed = ", ".join(known[-5:]) if known else "none yet"
        raise LedgerError(f"there is no sweep {sweep_id!r} under {home / 'sweeps'}; the latest are: {listed}")

    @property
    def facts(self) -> SweepFacts:
        """What identifies the sweep."""
        values = self._read(self.path / "sweep.json", "sweep")
        try:
            fields = {key: value for key, value in values.items() if key != "version"}
            return SweepFacts(**{**fields, "reference": tuple(fields["reference"])})
        except (KeyError, TypeError) as error:
            raise LedgerError(f"{self.path / 'sweep.json'} is damaged: {error!r}") from error

    @property
    def config(self) -> SweepConfig:
        """The sweep's configuration."""
        return load_config(str(self.path / "sweep.yaml"))

    @property
    def journal(self) -> Path:
        """The Optuna study's journal file."""
        return self.path / "study.journal"

    @property
    def report(self) -> Path:
        """The report's folder."""
        return self.path / "report"

    def weights(self, key: str) -> Path:
        """Return where a member's weights are kept."""
        return self.path / "members" / f"{key}.safetensors"

    def write_member(self, record: MemberRecord) -> None:
        """File a member's record; from then on the member counts as done."""
        write_json(self.path / "members" / f"{record.key}.json", record.to_dict())

    def member(self, key: str) -> MemberRecord | None:
        """Read a member's record, None where there is none.

        Raises:
            LedgerError: the record is damaged.
        """
        path = self.path / "members" / f"{key}.json"
        if not path.exists():
            return None
        values = self._read(path, "member record")
        try:
            return MemberRecord.from_dict(values)
        except ValueError as error:
            raise LedgerError(f"{path} is damaged: {error}") from error

    def members(self) -> list[MemberRecord]:
        """Read all records, in the order of the trials.

        Raises:
            LedgerError: a record is damaged.
        """
        keys = [path.stem for path in (self.path / "members").glob("*.json") if not path.name.startswith(".")]
        records = [record for key in keys if (record := self.member(key)) is not None]
        return sorted(records, key=lambda record: record.number)

    def write_front(self, front: Front) -> None:
        """File the final front."""
        write_json(self.path / "front.json", front.to_dict())

    def front(self) -> Front | None:
        """Read the final front, None where the sweep has not ended.

        Raises:
            LedgerError: the file is damaged.
        """
        path = self.path / "front.json"
        if not path.exists():
            return None
        values = self._read(path, "front")
        try:
            return Front.from_dict(values)
        except ValueError as error:
            raise LedgerError(f"{path} is damaged: {error}") from error

    def _read(self, path: Path, what: str) -> dict[str, Any]:
        try:
            values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            check_version(values, what)
        except FileNotFoundError as error:
            raise LedgerError(f"{path} is missing") from error
        except ValueError as error:  # not JSON, not UTF-8, another version
            raise LedgerError(f"{path} is damaged: {error}") from error
        return values


def sweep_ids(home: Path) -> list[str]:
    """List the sweeps of a home, oldest first."""
    found = [path.parent for path in (home / "sweeps").glob("*/sweep.json")]
    return [path.name for path in sorted(found, key=lambda path: (path / "sweep.json").stat().st_mtime)]


def file_sha256(path: Path) -> str:
    """Hash a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
