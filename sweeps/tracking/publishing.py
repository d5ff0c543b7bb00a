"""From the ledger to MLflow, in calls that can be repeated: a server that is away costs time only.

What is called on the worker takes keys and reads the ledger when it runs, so that a queue stays small.
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
    """The sweep is whole in its ledger, and MLflow lacks part of it; the message says what to do."""


@dataclass(frozen=True)
class Published:
    """What MLflow has of the end of a sweep.

    Attributes:
        versions: the front's models in the registry, in the front's order; empty where they are missing.
        aliases: alias to version, over all sweeps of the data set.
        missing: what is not there, of all calls that the worker was given.
    """

    versions: "list[LoggedVersion]"
    aliases: "dict[str, RegisteredVersion]"
    missing: tuple[Missed, ...]


@dataclass(frozen=True)
class FrontModels:
    """The models of a front.

    Attributes:
        front: the final front.
        build: makes the whole model of a point.
        data: what models have to know of the data set.
        configs: member keys to how they were trained.
        max_drop: for the alias "best".
        exporters: write the models' files; those of the call that logs them when None.
        registered: is called after each model that was registered, from the worker's thread.
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
        writer: for the sweep.
        ledger: its directory.
        config: its configuration.
        running: whether this process runs it. The first to do so is kept as where the sweep comes from.

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
        StorageError: its record cannot be reached.
        LedgerError: its record is damaged.
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
        worker: which may still have members to write.
        writer: the sweep's runs, started.
        client: the server.
        ledger: the sweep's directory, with front and report in it.
        models: of the front.
        patience: seconds to wait for a server that is away.
        told: is told why it takes long.
        watch: is called while it waits, from this thread.
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
    """Queue the models of a front, and return what becomes of them."""
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
        CancelledError: the worker is to end.
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
    """Upload what the ledger has for people, and give the sweep's run its final status; for a worker.

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
    """Say what is missing, where something is.

    Args:
        ledger: the sweep's directory.
        missing: from `publish`.
        uri: the server.
        option: what the command that completes it needs beside the sweep.

    Raises:
        NotPublishedError: something is.
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
    """Return how each member was trained, by its key."""
    return {record.key: record.config for record in records}


class _Watched:
    """An MLflow client whose progress with models a worker can follow.

    Only a registration is progress: models are built ahead of it, and all that comes before it is made again
    by a repetition.

    Args:
        client: the server.
        worker: which runs the calls.
        registered: is called after each registration.
    """

    def __init__(self, client: "MlflowClient", worker: Worker, registered: Callable[[], None]) -> None:
        self._client, self._worker, self._registered = client, worker, registered

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def log_model_artifacts(self, *arguments: Any, **keywords: Any) -> Any:
        """Upload a model's files, unless the worker is to end."""
        self._worker.check_cancelled()
        return self._client.log_model_artifacts(*arguments, **keywords)

    def create_model_version(self, *arguments: Any, **keywords: Any) -> Any:
        """Register a model, and tell the worker."""
        version = self._client.create_model_version(*arguments, **keywords)
        self._worker.answers()
        self._registered()
        return version


def _grouped(labels: Sequence[str]) -> list[str]:
    """Name what is missing; members and steps of progress by their number, since they may be thousands."""
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
