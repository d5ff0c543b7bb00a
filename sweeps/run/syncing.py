"""Complete MLflow from a sweep's ledger, any number of times, on its own server or another."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from arsvd.data import DataError, Dataset
from sweeps.config import SweepConfig, config_to_params
from sweeps.ledger.joined_front import GrowingFront
from sweeps.ledger.ledger import FRONT, Ledger, LedgerError
from sweeps.ledger.lock import hold
from sweeps.ledger.records import FINISHED, Front, FrontPoint, MemberRecord, SweepFacts
from sweeps.report import write_report
from sweeps.run.finish import Models
from sweeps.run.places import find_data
from sweeps.tracking import ModelData, SweepWriter, connect, prompt_requests
from sweeps.tracking.models import standing_versions
from sweeps.tracking.publishing import (
    FrontModels,
    close_run,
    configs,
    filed,
    open_run,
    submit_models,
    write_member,
)
from sweeps.tracking.versions import point_identity
from sweeps.tracking.worker import PATIENCE_SECONDS, Missed, Worker

if TYPE_CHECKING:
    from sweeps.tracking.writer import Status


@dataclass(frozen=True)
class Synced:
    """The state of a sweep in MLflow after a sync.

    Attributes:
        uri: address of the server.
        members: number of members that it has.
        final: True if the sweep has ended; until then there are no models.
        missing: everything that could not be stored.
    """

    uri: str
    members: int
    final: bool
    missing: tuple[Missed, ...]


def sync_sweep(
    ledger: Ledger,
    *,
    to: str | None = None,
    data_dir: Path | None = None,
    force: bool = False,
    patience: float = PATIENCE_SECONDS,
    told: Callable[[str], None] | None = None,
) -> Synced:
    """Add to MLflow what the ledger has and MLflow lacks.

    Members and models that are there are left alone. The data set is needed only where models have to be
    logged: their normalisation and their examples come from it.

    Args:
        ledger: directory of the sweep.
        to: address of the server; None for `MLFLOW_TRACKING_URI`, else the embedded store.
        data_dir: folder that holds the data sets; see `arsvd.data.data_root`.
        force: True to take the lock of a process on another machine.
        patience: seconds to wait for a server that goes away meanwhile.
        told: function that receives the reason where it takes long.

    Returns:
        What is there now, and what is missing.

    Raises:
        TrackingError: the server does not answer at the start.
        LockedError: the sweep is being run.
        LedgerError: the ledger is damaged beyond single members.
    """
    client = connect(to)
    with hold(ledger, force), prompt_requests(), Worker() as worker:
        config, front = ledger.config, ledger.front()
        records, missing = _readable(ledger)
        writer = SweepWriter(client)
        open_run(writer, ledger, config, running=False)
        models = None
        if front is not None:
            known, _ = standing_versions(client, writer.run_id, ledger.facts.dataset)
            models, lost = _front_models(ledger, front, config, records, data_dir, set(known))
            missing += lost
            _write_report(ledger, front, config)
        for record in records:
            worker.submit(write_member, writer, ledger, record.key, label=f"member {record.number}")
        _submit_progress(worker, writer, ledger, config, records)
        if models is not None and models.front.points:
            submit_models(worker, client, writer, models)
        status, ended = _status(writer, front, records), _ended(ledger, front, records)
        worker.submit(close_run, writer, ledger, status, front, ended, label="the report")
        missing += worker.wait(patience, told)
    lacking = {missed.what for missed in missing}
    members = sum(f"member {record.number}" not in lacking for record in records)
    return Synced(client.tracking_uri, members, front is not None, tuple(missing))


def _readable(ledger: Ledger) -> tuple[list[MemberRecord], list[Missed]]:
    """Read the members in the order in which they were filed; damaged ones are named."""
    records, damaged = [], []
    for key in sorted(ledger.member_keys(), key=lambda key: (filed(ledger, key), key)):
        try:
            record = ledger.member(key)
        except LedgerError as error:
            damaged.append(Missed(f"member {key}", str(error)))
        else:
            records += [] if record is None else [record]
    return records, damaged


def _front_models(
    ledger: Ledger,
    front: Front,
    config: SweepConfig,
    records: Sequence[MemberRecord],
    data_dir: Path | None,
    known: set[tuple[Any, ...]],
) -> tuple[FrontModels, list[Missed]]:
    """Return the part of a front that is registered or can be, and what cannot."""
    facts = ledger.facts
    standing = [entry for entry in front.points if point_identity(entry) in known]
    wanted = [entry for entry in front.points if point_identity(entry) not in known]
    hashes = {record.key: record.weights_sha256 for record in records}
    whole, missing = [], []
    for entry in wanted:
        try:
            with ledger.read_weights(entry.key, hashes.get(entry.key, "")):
                whole.append(entry)
        except LedgerError as error:
            missing.append(Missed(f"the model of {entry.point.cost.numbers:,} parameters", str(error)))
    # what is registered needs neither images nor classes
    data = ModelData(facts.dataset, facts.data_hash, (), torch.empty(0))
    build: Callable[[FrontPoint], nn.Module] = _unbuilt
    if whole:
        try:
            dataset = _same_data(ledger, config, facts, data_dir)
        except DataError as error:
            cause = f"they need the data set, and {error}"
            missing.append(Missed(f"{len(whole)} models of the front", cause))
            whole = []
        else:
            data = ModelData.of(dataset)
            build = Models(ledger, dataset, records).build
    chosen = {point_identity(entry) for entry in (*standing, *whole)}
    points = tuple(entry for entry in front.points if point_identity(entry) in chosen)
    part = replace(front, points=points)
    return FrontModels(part, build, data, configs(records), config.select.max_drop), missing


def _same_data(ledger: Ledger, config: SweepConfig, facts: SweepFacts, data_dir: Path | None) -> Dataset:
    """Load the data set, and make sure that it is the one that the sweep was run on.

    Raises:
        DataError: the data set is missing or another one.
    """
    dataset, _ = find_data(ledger, config, data_dir)
    if dataset.hash != facts.data_hash:
        raise DataError(
            f"the data set {facts.dataset!r} found here is not the one of the sweep: its content hash begins "
            f"with {dataset.hash[:12]}, the sweep's with {facts.data_hash[:12]}"
        )
    return dataset


def _unbuilt(entry: FrontPoint) -> nn.Module:
    raise LedgerError(
        f"the model of {entry.point.cost.numbers:,} parameters cannot be built without its data set"
    )


def _write_report(ledger: Ledger, front: Front, config: SweepConfig) -> None:
    """Write the report again: the existing one may be an earlier front's, or incomplete."""
    facts = ledger.facts
    with ledger.new_report() as folder:
        write_report(folder, front, facts.id, facts.dataset, config_to_params(config))


def _submit_progress(
    worker: Worker,
    writer: SweepWriter,
    ledger: Ledger,
    config: SweepConfig,
    records: Sequence[MemberRecord],
) -> None:
    """Queue the sweep's progress where MLflow lacks it: one step per member, in the order of filing."""
    there = writer.progress_steps()
    if there.issuperset(range(1, len(records) + 1)):
        return
    facts, points = ledger.facts, 0
    growing = GrowingFront(facts.reference, config.select.max_drop, facts.validation_images)
    for step, record in enumerate(records, start=1):
        growing.add(record)
        points += len(record.points)
        if step not in there:
            front = growing.front()
            worker.submit(
                writer.progress,
                members=step,
                points=points,
                hypervolume=front.hypervolume,
                best=front.best,
                at=filed(ledger, record.key),
                label=f"progress at {step} members",
            )


def _status(writer: SweepWriter, front: Front | None, records: Sequence[MemberRecord]) -> "Status":
    if front is not None:
        return "FINISHED"
    failed = writer.status == "FAILED" or (
        bool(records) and all(record.status != FINISHED for record in records)
    )
    return "FAILED" if failed else "KILLED"


def _ended(ledger: Ledger, front: Front | None, records: Sequence[MemberRecord]) -> int | None:
    """Return when the sweep ended, in milliseconds since 1970; None where that is unknown."""
    if front is not None:
        return int(1000 * ledger.storage.modified(FRONT))
    return filed(ledger, records[-1].key) if records else None
