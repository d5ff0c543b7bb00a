"""From the ledger to MLflow, in calls that can be repeated: a server that is away costs only time.

Calls on the worker take keys and read the ledger when they run, so that the queue stays small.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from torch import nn

from sweeps.config import SweepConfig, config_to_params
from sweeps.ledger.ledger import FRONT, FRONT_SO_FAR, Ledger
from sweeps.ledger.records import Front, FrontPoint, MemberRecord
from sweeps.tracking import ModelData, SweepWriter, log_front, redact, set_aliases
from sweeps.tracking.provenance import provenance_tags
from sweeps.tracking.worker import PATIENCE_SECONDS, Missed, Worker

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from sweeps.tracking import LoggedVersion, RegisteredVersion
    from sweeps.tracking.exporting import Exporters
    from sweeps.tracking.writer import Status


class NotPublishedError(RuntimeError):
    """The sweep is complete in its ledger, and MLflow lacks part of it; the message says what to do."""


@dataclass(frozen=True)
class Published:
    """The part of a sweep's end that MLflow has.

    Attributes:
        versions: registry versions of the front's models, in the front's order; empty where they are missing.
        aliases: versions by alias, over all sweeps of the data set.
        missing: calls that failed, of all that the worker was given.
    """

    versions: "list[LoggedVersion]"
    aliases: "dict[str, RegisteredVersion]"
    missing: tuple[Missed, ...]


@dataclass(frozen=True)
class FrontModels:
    """The models of a front, with everything needed to log them.

    Attributes:
        front: final front.
        build: function that builds the whole model of a point.
        data: facts about the data set that models need.
        configs: configurations of the members by their keys.
        max_drop: largest drop in accuracy for the alias "best".
        exporters: processes that write the models' files; None for those of the call that logs them.
        registered: callback after each model that was registered, on the worker's thread.
    """

    front: Front
    build: Callable[[FrontPoint], nn.Module]
    data: ModelData
    configs: "Mapping[str, Any]"
    max_drop: float
    exporters: "Exporters | None" = None
    registered: Callable[[], None] = lambda: None


def open_run(writer: SweepWriter, ledger: Ledger, config: SweepConfig, running: bool = True) -> None:
    """Create the sweep's run, or find it again.

    Args:
        writer: writer of the sweep.
        ledger: directory of the sweep.
        config: configuration of the sweep.
        running: True if this process runs the sweep. The first one to do so is recorded as the sweep's
            origin.

    Raises:
        TrackingError: the server is away or refuses.
    """
    facts = ledger.facts
    writer.start(
        sweep=facts.id,
        dataset=facts.dataset,
        data_hash=facts.data_hash,
        params=config_to_params(config),
        reference_params=facts.reference[0],
        provenance=_provenance(ledger, running),
        began=int(1000 * datetime.fromisoformat(facts.began).timestamp()),
        running=running,
    )


def write_member(writer: SweepWriter, ledger: Ledger, key: str) -> None:
    """Write a member that is on file; for a worker.

    Raises:
        TrackingError: the server is away or refuses.
        StorageError: the record cannot be reached.
        LedgerError: the record is damaged.
    """
    record = ledger.member(key)
    if record is not None:
        writer.member(record, ended=filed(ledger, key))


def filed(ledger: Ledger, key: str) -> int:
    """Return when a member was filed, in milliseconds since 1970."""
    return int(1000 * ledger.storage.modified(f"members/{key}.json"))


def publish(
    worker: Worker,
    writer: SweepWriter,
    client: "MlflowClient",
    ledger: Ledger,
    models: FrontModels,
    patience: float = PATIENCE_SECONDS,
    told: Callable[[str], None] | None = None,
    watch: Callable[[], None] | None = None,
) -> Published:
    """Log and register the models of the final front, set the aliases, upload the report, close the run.

    Args:
        worker: worker that may still have members to write.
        writer: writer of the sweep's runs, started.
        client: client of the server.
        ledger: directory of the sweep, with front and report in it.
        models: models of the front.
        patience: seconds to wait for a server that is away.
        told: function that receives the reason where it takes long.
        watch: callback that is called during the wait, from this thread.
    """
    registered = submit_models(worker, client, writer, models)
    worker.submit(close_run, writer, ledger, "FINISHED", models.front, label="the report")
    missing = tuple(worker.wait(patience, told, watch=watch))
    done = registered.done() and not registered.cancelled() and registered.exception() is None
    versions, aliases = registered.result() if done else ([], {})
    return Published(versions, aliases, missing)


def submit_models(
    worker: Worker, client: "MlflowClient", writer: SweepWriter, models: FrontModels
) -> "Future[tuple[list[LoggedVersion], dict[str, RegisteredVersion]]]":
    """Queue the models of a front, and return the future result."""
    label = f"{len(models.front.points)} models of the front with their aliases"
    return worker.submit(register, worker, client, writer, models, label=label)


def register(
    worker: Worker, client: "MlflowClient", writer: SweepWriter, models: FrontModels
) -> "tuple[list[LoggedVersion], dict[str, RegisteredVersion]]":
    """Log and register the models of a front and set the aliases; for a worker.

    Raises:
        TrackingError: the server is away or refuses.
        StorageError: a member's weights cannot be reached.
        ValueError: a model cannot be exported.
        LedgerError: a member's record or weights are damaged.
        CancelledError: the worker should end.
    """

    def build(entry: FrontPoint) -> nn.Module:
        worker.check_cancelled()
        return models.build(entry)

    watched = _Watched(client, worker, models.registered)
    versions = log_front(
        watched, writer.run_id, models.front, build, models.data, models.configs, models.exporters
    )
    return versions, set_aliases(client, models.data.name, models.max_drop)


def close_run(
    writer: SweepWriter, ledger: Ledger, status: "Status", front: Front | None, ended: int | None = None
) -> None:
    """Upload the ledger's files for people, and give the sweep's run its final status; for a worker.

    Raises:
        TrackingError: the server is away or refuses.
        StorageError: a file of the ledger cannot be reached.
    """
    names = [name for name in ("sweep.yaml", FRONT, FRONT_SO_FAR) if ledger.storage.exists(name)]
    names += [f"report/{name}" for name in ledger.storage.files("report")]
    with contextlib.ExitStack() as stack:
        paths = [stack.enter_context(ledger.storage.local(name)) for name in names]
        writer.finish(status, paths, front, ended)


def check_published(ledger: Ledger, missing: Sequence[Missed], uri: str, option: str = "") -> None:
    """Raise an error that says what is missing, if anything is.

    Args:
        ledger: directory of the sweep.
        missing: failed calls, from `publish`.
        uri: address of the server.
        option: options that the command that completes it needs besides the sweep.

    Raises:
        NotPublishedError: something is missing.
    """
    if not missing:
        return
    listed = ", ".join(_grouped([missed.what for missed in missing]))
    causes = "; ".join(dict.fromkeys(missed.cause for missed in missing))
    raise NotPublishedError(
        f"MLflow at {redact(uri)} lacks {listed} ({causes}). The sweep itself is whole in {ledger.location}; "
        f"once MLflow can take it: arsvd sync {ledger.facts.id}{option}"
    )


def configs(records: Sequence[MemberRecord]) -> "dict[str, Any]":
    """Return the configuration of each member, by its key."""
    return {record.key: record.config for record in records}


class _Watched:
    """An MLflow client that tells a worker of its progress with models.

    Only a registration counts as progress: models are built ahead of it, and everything before it is repeated
    on a retry.

    Args:
        client: client of the server.
        worker: worker that runs the calls.
        registered: callback after each registration.
    """

    def __init__(self, client: "MlflowClient", worker: Worker, registered: Callable[[], None]) -> None:
        self._client, self._worker, self._registered = client, worker, registered

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def log_model_artifacts(self, *arguments: Any, **keywords: Any) -> Any:
        """Upload a model's files, unless the worker should end."""
        self._worker.check_cancelled()
        return self._client.log_model_artifacts(*arguments, **keywords)

    def create_model_version(self, *arguments: Any, **keywords: Any) -> Any:
        """Register a model, and tell the worker."""
        version = self._client.create_model_version(*arguments, **keywords)
        self._worker.answers()
        self._registered()
        return version


def _grouped(labels: Sequence[str]) -> list[str]:
    """Name what is missing; members and steps of progress by their number, since there may be thousands."""
    kinds = {"member ": "members", "progress ": "steps of progress"}
    found = []
    for start, plural in kinds.items():
        of_kind = [label for label in dict.fromkeys(labels) if label.startswith(start)]
        found += of_kind if len(of_kind) < 2 else [f"{len(of_kind)} {plural}"]
    return found + [label for label in dict.fromkeys(labels) if not label.startswith(tuple(kinds))]


def _provenance(ledger: Ledger, running: bool) -> dict[str, str]:
    found = ledger.provenance()
    if found is None and running:
        found = provenance_tags()
        ledger.write_provenance(found)
    return found or {}
