"""The models of a front in MLflow: logged, measured, registered."""

import json
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from mlflow.entities import LoggedModelOutput, Metric
from torch import Tensor, nn

from arsvd.choices import choices_of
from arsvd.data import Dataset
from sweeps.tracking.claiming import claim_name
from sweeps.tracking.entities import digest, split_name
from sweeps.tracking.exporting import Exporters
from sweeps.tracking.outages import artifact_errors, tracking_errors
from sweeps.tracking.packaging import package
from sweeps.tracking.programs import Order
from sweeps.tracking.registry import registered_versions
from sweeps.tracking.runs import DATA_TAG, DATASET_TAG, MEMBER_TAG, SWEEP_TAG
from sweeps.tracking.versions import RegisteredVersion, point_identity, ranks_text, registered_name

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run

    from sweeps.config import MemberConfig
    from sweeps.ledger.records import Front, FrontPoint

_LOGGED_IMAGES = 8  # logged with each model


@dataclass(frozen=True)
class ModelData:
    """The facts about its data set that a logged model needs.

    Attributes:
        name: name of the data set.
        hash: content hash of the data set.
        classes: names of its classes, in the order of the logits.
        examples: uint8 (images, channels, height, width), one image or more.
        origin: place that the data comes from; see `arsvd.data.Dataset`.
        scale: level in the data's files that is 1.0 in a model's input.
    """

    name: str
    hash: str
    classes: tuple[str, ...]
    examples: Tensor
    origin: str = ""
    scale: float = 255.0

    @classmethod
    def of(cls, dataset: Dataset) -> "ModelData":
        """Take the facts from a data set; the examples are the first validation images."""
        examples = dataset.validation.images[:_LOGGED_IMAGES].clone()  # a view would keep all images alive
        return cls(dataset.name, dataset.hash, dataset.classes, examples, dataset.origin, dataset.scale)


@dataclass(frozen=True)
class LoggedVersion:
    """A model of the front, as stored in MLflow.

    Attributes:
        version: registered version.
        reused: True if it was there before.
    """

    version: RegisteredVersion
    reused: bool


def log_front(
    client: "MlflowClient",
    run_id: str,
    front: "Front",
    build: "Callable[[FrontPoint], nn.Module]",
    data: ModelData,
    configs: "Mapping[str, MemberConfig] | None" = None,
    exporters: Exporters | None = None,
) -> list[LoggedVersion]:
    """Log and register every model of a front.

    A model that an earlier call registered is left alone. One that an earlier call left incomplete is removed
    and written anew: registration is the last step. A model that somebody has since deleted is also written
    anew, and the remaining version of it is removed once the new one is there.

    Args:
        client: client of the server.
        run_id: id of the sweep's run, created by `SweepWriter.start`.
        front: final front, with test figures where they were measured.
        build: function that builds the whole model of a point: float32 images
            (batch, channels, height, width) in [0, 1] to logits (batch, classes).
        data: facts about the data set.
        configs: configurations of the members by their keys, for the models' parameters.
        exporters: processes that write the models' files, and stay open; None for ones of this call's own.

    Returns:
        One entry per point, in the front's order.

    Raises:
        ValueError: a model does not give one logit per class, or its exported form disagrees with it.
        TrackingError: the server cannot be reached.
    """
    with tracking_errors(client.tracking_uri):
        run = client.get_run(run_id)
        sweep = run.data.tags[SWEEP_TAG]
        known, lost = standing_versions(client, run_id, data.name)
        _remove_unregistered(client, run, sweep, {version.model_id for version in known.values()})
        linked = {output.model_id for output in run.outputs.model_outputs} if run.outputs else set()
        unknown = [entry for entry in front.points if point_identity(entry) not in known]
        if unknown:
            claim_name(client, data)
        with ExitStack() as stack:
            exporters = exporters or stack.enter_context(Exporters())
            new = _log(client, run, front, unknown, build, data, configs or {}, exporters)
            stack.enter_context(closing(new))
            logged = [_logged(client, front, e, known.get(point_identity(e)), new) for e in front.points]
        links = [LoggedModelOutput(v.version.model_id, v.version.params) for v in logged]
        missing = [link for link in links if link.model_id not in linked]
        if missing:
            client.log_outputs(run_id, missing)
        for version in lost:
            client.delete_model_version(version.name, str(version.version))
        return logged


def standing_versions(
    client: "MlflowClient", run_id: str, dataset: str
) -> tuple[dict[tuple[Any, ...], RegisteredVersion], list[RegisteredVersion]]:
    """Find what the registry holds of a sweep.

    Args:
        client: client of the server.
        run_id: id of the sweep's run.
        dataset: name of the data set.

    Returns:
        The versions by the points that they are, and those whose logged model somebody deleted: its files are
        lost with the next clean-up of the store.

    Raises:
        TrackingError: the server cannot be reached.
    """
    with tracking_errors(client.tracking_uri):
        run = client.get_run(run_id)
        sweep = run.data.tags[SWEEP_TAG]
        versions = [v for v in registered_versions(client, dataset) if v.sweep == sweep]
        logged = set(_logged_models(client, run, sweep)) if versions else set()
    standing = {version.point: version for version in versions if version.model_id in logged}
    return standing, [version for version in versions if version.model_id not in logged]


def _logged(
    client: "MlflowClient",
    front: "Front",
    entry: "FrontPoint",
    version: RegisteredVersion | None,
    new: Iterator[RegisteredVersion],
) -> LoggedVersion:
    """Take the next of the new versions, unless one exists already, which is then brought up to date."""
    if version is None:
        return LoggedVersion(next(new), reused=False)
    # a continued sweep may have a better dense member, from which drops are counted, or another confidence
    now = replace(version, dense_accuracy=front.dense_accuracy, assured_accuracy=entry.counted)
    before = version.to_tags()
    for tag, text in now.to_tags().items():
        if text != before[tag]:
            client.set_model_version_tag(now.name, str(now.version), tag, text)
    return LoggedVersion(now, reused=True)


def _log(
    client: "MlflowClient",
    run: "Run",
    front: "Front",
    entries: "Sequence[FrontPoint]",
    build: "Callable[[FrontPoint], nn.Module]",
    data: ModelData,
    configs: "Mapping[str, MemberConfig]",
    exporters: Exporters,
) -> Generator[RegisteredVersion]:
    """Export, log and register models in order; exports run ahead of registration."""
    begun: deque[tuple[FrontPoint, LoggedModel]] = deque()

    def begin(entry: "FrontPoint") -> Order:
        network = build(entry)
        origin = {
            SWEEP_TAG: run.data.tags[SWEEP_TAG],
            MEMBER_TAG: entry.key,
            DATA_TAG: data.hash,
            DATASET_TAG: data.name,
        }
        model = client.create_logged_model(
            str(run.info.experiment_id),
            name=f"front-{entry.point.cost.numbers:06d}-params",
            source_run_id=str(run.info.run_id),
            tags=origin,
            params=_params(entry, configs.get(entry.key)),
            model_type="arsvd",
        )
        begun.append((entry, model))
        header = {**origin, "classes": list(data.classes), "scale": data.scale, **entry.point.to_dict()}
        dataset = (data.name, data.hash, data.classes)
        return Order(network.cpu().eval(), header, data.examples, dataset)

    orders = [partial(begin, entry) for entry in entries]
    with closing(exporters.exported(orders, len(entries))) as exports:
        for export in exports:
            entry, model = begun.popleft()
            folder = package(export.folder, export.order, model)
            with artifact_errors(client.tracking_uri):
                client.log_model_artifacts(model.model_id, str(folder))
            yield _finish(client, run, front, entry, model, data, export.sha256)


def _finish(
    client: "MlflowClient",
    run: "Run",
    front: "Front",
    entry: "FrontPoint",
    model: "LoggedModel",
    data: ModelData,
    sha256: str,
) -> RegisteredVersion:
    """Give a logged model its metrics, and register it, which is the last step."""
    run_id = str(run.info.run_id)
    # The run's own start stamps every value: one that an earlier try left in the run is stored once.
    stamp = int(run.info.start_time)
    client.log_batch(run_id, metrics=_metrics(entry, front, data, model.model_id, stamp))
    client.finalize_logged_model(model.model_id, "READY")
    test = None if entry.test is None else entry.test.accuracy
    facts = RegisteredVersion(
        name=registered_name(data.name),
        version=0,
        sweep=run.data.tags[SWEEP_TAG],
        member=entry.key,
        data_hash=data.hash,
        ranks=entry.point.ranks,
        formats=entry.point.formats,
        basis=entry.point.basis,
        family=entry.point.family,
        params=entry.point.cost.numbers,
        macs=entry.point.cost.macs,
        validation_accuracy=entry.point.accuracy,
        dense_accuracy=front.dense_accuracy,
        assured_accuracy=entry.counted,
        test_accuracy=test,
        sha256=sha256,
        model_id=model.model_id,
        scale=data.scale,
    )
    return _register(client, model, run_id, facts, front)


def _register(
    client: "MlflowClient", model: "LoggedModel", run_id: str, facts: RegisteredVersion, front: "Front"
) -> RegisteredVersion:
    remote = client.tracking_uri.startswith("http")
    created = client.create_model_version(
        facts.name,
        # MLflow 3.17 resolves models:/<id> against its global tracking URI when it talks to a database itself
        source=f"models:/{model.model_id}" if remote else model.artifact_location,
        run_id=run_id,
        tags=facts.to_tags(),
        description=_description(facts, front),
        model_id=model.model_id,
    )
    number = int(created.version)
    if not remote:
        # a server does this; it is how the UI finds the version of a logged model
        listed = json.dumps([{"name": facts.name, "version": number}])
        client.set_logged_model_tags(model.model_id, {"mlflow.modelVersions": listed})
    return replace(facts, version=number)


def _remove_unregistered(client: "MlflowClient", run: "Run", sweep: str, registered: set[str]) -> None:
    """Delete the logged models that a process left behind when it ended before it registered them."""
    for model_id in _logged_models(client, run, sweep):
        if model_id not in registered:
            client.delete_logged_model(model_id)


def _logged_models(client: "MlflowClient", run: "Run", sweep: str) -> list[str]:
    """List the ids of a sweep's logged models, except those that were deleted."""
    found: list[str] = []
    token: str | None = None
    while True:
        page = client.search_logged_models(
            [run.info.experiment_id],
            filter_string=f"tags.`{SWEEP_TAG}` = '{sweep}'",
            max_results=50,
            page_token=token,
        )
        found += [str(model.model_id) for model in page]
        token = page.token
        if not token:
            return found


def _params(entry: "FrontPoint", config: "MemberConfig | None") -> dict[str, str]:
    values: dict[str, Any] = {} if config is None else config.values()
    values |= {
        "member": entry.number,
        "ranks": ranks_text(entry.point.choices),
        "family": entry.point.family,
        "basis": entry.point.basis or "none",
        "threshold": "none" if entry.point.threshold is None else entry.point.threshold,
    }
    return {key: str(value) for key, value in values.items()}


def _metrics(entry: "FrontPoint", front: "Front", data: ModelData, model_id: str, stamp: int) -> list[Metric]:
    point, data_digest = entry.point, digest(data.hash)

    def metric(key: str, value: float, split: str | None = None) -> Metric:
        # The step is the size: the sweep's run draws its front from these as well.
        return Metric(
            key,
            float(value),
            stamp,
            point.cost.numbers,
            model_id=model_id,
            dataset_name=None if split is None else split_name(data.name, split),
            dataset_digest=None if split is None else data_digest,
        )

    metrics = [
        metric("params", point.cost.numbers),
        metric("bits", point.cost.bits),
        metric("macs", point.cost.macs),
        metric("ratio", front.ratio(point.cost.numbers)),
        metric("validation_accuracy", point.accuracy, "validation"),
        metric("validation_macro_f1", point.macro_f1, "validation"),
        metric("validation_loss", point.loss, "validation"),
    ]
    if entry.test is not None:
        metrics += [
            metric("test_accuracy", entry.test.accuracy, "test"),
            metric("test_macro_f1", entry.test.macro_f1, "test"),
            metric("test_loss", entry.test.loss, "test"),
        ]
    for latency in entry.latency:
        metrics += [
            metric(f"latency_batch{latency.batch}_us", latency.median_us),
            metric(f"speedup_batch{latency.batch}", latency.speedup),
        ]
    return metrics


def _description(facts: RegisteredVersion, front: "Front") -> str:
    test = "" if facts.test_accuracy is None else f", test {facts.test_accuracy:.4f}"
    return (
        f"{facts.params:,} parameters, {front.ratio(facts.params):.1f} times fewer than the "
        f"reference; accuracy on validation {facts.validation_accuracy:.4f}{test}; "
        f"ranks {ranks_text(choices_of(facts.ranks, facts.formats))}."
    )
